"""Which families of encoders go through the whole loop; writes docs/encoders.md.

    python -m tests.benchmarks.encoders                  all families, both tasks; about 15 minutes
    python -m tests.benchmarks.encoders bert deberta     these, beside the rows that are there
    python -m tests.benchmarks.encoders --page           only write the page from the rows

Each family is a random model of two layers and 32 numbers a piece, made on the spot with a small
tokenizer of its own class, and goes through the program: `init`, 200 rows, `update` (which exports
and compares), `predict` on 30 new rows, and a server that must answer the same. What `init` refuses
stays refused; what it lets in and then fails would be a fault.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.common import HERE, append_row, read_rows
from tests.encoders import FAMILIES, STEPS, TASKS, Family, own_tokenizer, walk

NAME = "encoders"
PAGE = HERE.parents[1] / "docs" / "encoders.md"
COMMAND = "python -m tests.benchmarks.encoders"
GENERAL = "PreTrainedTokenizerFast"


def measure(family: Family, task: str) -> bool:
    """Take a family through the loop and keep how far it came; say whether `init` let it in."""
    from transformers import __version__

    with tempfile.TemporaryDirectory(prefix="encoders-") as folder:
        found = walk(family, task, Path(folder))
    row = asdict(found)
    named = {"tokenizer": own_tokenizer(family).__name__, "transformers": __version__}
    append_row(NAME, {**row, **named})
    return bool(found.passed)


def newest() -> dict[tuple[str, str], dict[str, Any]]:
    """Give the last row of each family and task."""
    return {(row["family"], row["task"]): row for row in read_rows(NAME)}


def page(rows: dict[tuple[str, str], dict[str, Any]]) -> str:
    """Write the page: those that go, and those that are refused, each with its reason."""
    families = [family.name for family in FAMILIES if (family.name, TASKS[0]) in rows]
    both = {name: [rows[name, task] for task in TASKS if (name, task) in rows] for name in families}
    refused = [name for name in families if not both[name][0]["passed"]]
    tried = [name for name in families if name not in refused]
    whole = [sum(is_whole(rows[n, task]) for n in tried if (n, task) in rows) for task in TASKS]
    version = both[families[0]][0]["transformers"]
    lines = [
        "# Encoders",
        "",
        "Which families of encoders `model.base` may name. This page is written by the benchmark",
        "[tests/benchmarks/encoders.py](../tests/benchmarks/encoders.py):",
        "",
        f"    {COMMAND}",
        "",
        f"It makes a tiny random model of each of {len(families)} families (two layers, 32 numbers a piece)",
        "with a small tokenizer of the family's class, trained on the spot, and takes it through the",
        "program: `init`, 200 rows, `update`, parity of the ONNX graph with the trained model, `predict`",
        "on 30 new rows, and a server that must answer as `predict` did; once with labels of texts and",
        f"once with entities. Measured with transformers {version}. A family that is not here is tried by",
        "`init` and `doctor` all the same: they load the base model, let it read a short text, and train,",
        "export and compare a copy of two layers, and refuse what cannot go with the reason.",
        "",
        f"{len(tried)} families pass `init`. Of them {whole[0]} pass the whole loop for classification and",
        f"{whole[1]} for entities; {len(refused)} are refused at `init`.",
        "",
        "## Families that go",
        "",
        "The largest difference of scores between the fp32 graph and the trained model is given by the",
        'spread of the scores, where 0.001 is allowed; `served` is what `export.precision = "auto"` chose',
        "on this machine, for texts and for entities.",
        "",
        "| family | tokenizer | " + " | ".join(STEPS) + " | entities | difference | served |",
        "| --- " * (len(STEPS) + 5) + "|",
    ]
    for name in tried:
        texts, entities = both[name][0], both[name][-1]
        marks = ["yes" if step in texts["passed"] else "no" for step in STEPS]
        marks.append("yes" if is_whole(entities) else f"no: {entities['stopped']}")
        tokenizer = texts["tokenizer"]
        if tokenizer == GENERAL:
            tokenizer = "tokenizer.json"
        lines.append(
            f"| {name} | {tokenizer} | {' | '.join(marks)} | {_largest(both[name])} "
            f"| {texts['precision'] or '–'}, {entities['precision'] or '–'} |"
        )
    stopped = [row for name in tried for row in both[name] if row["stopped"]]
    if stopped:
        lines += ["", "What stopped those that did not come to the end:", ""]
        lines += [f"- {row['family']}, {row['task']}: {row['stopped']}" for row in stopped]
    lines += [
        "",
        "`tokenizer.json` says that the family has no class of fast tokenizers that could be used here: a base",
        "model of it needs that file beside its weights. BigBird's sparse attention is read as its full one,",
        "which is what it does itself with texts of up to some hundred pieces.",
        "",
        "## Families that are refused",
        "",
        "| family | what `init` says |",
        "| --- | --- |",
        *(f"| {name} | {_reason(both[name][0])} |" for name in refused),
        "",
        f"Measured on: {', '.join(sorted({row['machine'] for row in rows.values()}))}.",
        "",
    ]
    return "\n".join(lines)


def is_whole(row: dict[str, Any]) -> bool:
    return row["passed"] == list(STEPS)


def _largest(rows: list[dict[str, Any]]) -> str:
    found = [row["relative_difference"] for row in rows if row["relative_difference"] is not None]
    return f"{max(found):.0e}" if found else "–"


def _reason(row: dict[str, Any]) -> str:
    """Give the middle of the sentence: what it is of, and why not."""
    said = row["stopped"].partition("cannot be used: ")[2] or row["stopped"]
    return said.splitlines()[0].replace("|", "\\|")


def main(arguments: list[str]) -> None:
    names = [argument for argument in arguments if not argument.startswith("--")]
    if "--page" not in arguments:
        for family in FAMILIES:
            if not names or family.name in names:
                # What init refuses, it refuses for every task.
                all(measure(family, task) for task in TASKS)
    PAGE.write_text(page(newest()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
