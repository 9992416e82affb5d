"""Which strategy and which regulariser works where. The tests prove it, the docs show it.

python -m tests.conformance.matrix     writes the table into docs/strategies.md
"""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "strategies.md"
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
COLUMNS = ("fixed labels", "new labels", "entities", "with lora")
# Where something does not work, and what the error says.
REFUSED = {
    ("icarl", "entities"): "needs class-sums",
    ("mir", "entities"): "ranks inputs by one loss each",
    **{
        (name, "with lora"): "begins with new ones in every update"
        for name in ("ewc", "online-ewc", "si", "mas", "rwalk")
    },
    **{
        ("o-lora", column): "needs the low-rank updates of the method lora"
        for column in COLUMNS
        if column != "with lora"
    },
}
WORDS = {
    "needs class-sums": "no: one feature vector a text",
    "ranks inputs by one loss each": "no: one loss an input",
    "begins with new ones in every update": "no: new weights in every update",
    "needs the low-rank updates of the method lora": "no: needs lora",
}
# A few options so that the tiny model gets through in no time.
OPTIONS = {
    "rwalk": {"steps": 2},
    "gem": {"constraints": 2, "patterns": 4},
    "a-gem": {"sample_size": 4},
    "mir": {"subsample": 6, "batch_size": 3},
    "der": {"batch_size": 4},
    "der-plus-plus": {"batch_size": 4},
    "pgd": {"steps": 2},
    "masked-words": {"batch_size": 2},
}
# What a version keeps of it, besides the replay buffer.
KEEPS = {
    "ewc", "online-ewc", "si", "mas", "rwalk", "o-lora", "der", "der-plus-plus", "masked-words",
}  # fmt: skip
# Only with a strategy that shows exemplars.
WITH_REPLAY = {"er-ace"}


def names():
    """All strategies and regularisers that can stand in the table."""
    from contlearn.plugins.manager import PluginManager

    manager = PluginManager(discover=False)
    strategies = list(manager.table("strategy"))
    regularizers = [name for name in manager.table("regularizer") if name != "avalanche"]
    return manager, strategies, regularizers


def render() -> str:
    """Write the table."""
    manager, strategies, regularizers = names()
    lines = [
        "| name | what it does | " + " | ".join(COLUMNS) + " | kept in a version |",
        "| --- | --- |" + " --- |" * (len(COLUMNS) + 1),
    ]
    for kind, found in (("strategy", strategies), ("regularizer", regularizers)):
        for name in found:
            cells = [WORDS.get(REFUSED.get((name, column), ""), "yes") for column in COLUMNS]
            summary = manager.get(kind, name, where="table").summary
            kept = "its state" if name in KEEPS else "–"
            lines.append(f"| `{name}` ({kind}) | {summary} | {' | '.join(cells)} | {kept} |")
    return "\n".join(lines)


def page_with_table() -> str:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{render()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(), encoding="utf-8")
