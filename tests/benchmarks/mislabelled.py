"""Batches with wrong labels for a champion that knows better: which are doubted.

    python -m tests.benchmarks.mislabelled                     all of them
    python -m tests.benchmarks.mislabelled --only snips        one: banking77, snips, snips-slots

A champion learns three fifths of a set; a part of the rest proves it, as its held-out rows do.
Batches are drawn from what is left. In one kind a tenth of the labels is wrong, as in
`tests.benchmarks.suspects`. In the other a whole class (of sentences: a type of entities) has the
name of another; ten such batches, their classes fixed by the seeds 0 to 9. Each is judged twice:
with thresholds from the rows of the batch itself, as it was until now, and with those of the proof.
A batch counts as named where the pair of both classes is the first that is told.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from contlearn.config import ModelConfig, ReplayConfig, TrainingConfig
from contlearn.data.label_quality import Proof, count_pairs, doubtful, prove
from contlearn.modeling.checkpoint import load_checkpoint
from contlearn.plugins.manager import PluginManager
from contlearn.training.encoded import encode_records
from contlearn.training.fit import FitRequest, fit_challenger
from contlearn.training.scoring import log_softmax, logits_of
from contlearn.types import Experience, LabelledRecord, LabelSpace
from tests.benchmarks.common import append_row
from tests.benchmarks.learning import read, record
from tests.benchmarks.suspects import BASE, MAX_TOKENS, SETS, flipped

if TYPE_CHECKING:
    from contlearn.data.label_quality import Opinion

BATCH = 250
BATCHES = 10
PROVED = 1_000
# Of a rarer class a batch would hold next to nothing.
LEAST = 5


class Champion:
    """A model and how sure it is of each label."""

    def __init__(self, rows: Sequence[dict[str, Any]], task_name: str, folder: Path) -> None:
        manager = PluginManager(discover=False)
        self.task = manager.task(task_name, where="benchmark")
        learnt = [as_record(row) for row in rows]
        is_text = "label" in rows[0]
        result = fit_challenger(
            FitRequest(
                task=self.task,
                manager=manager,
                model=ModelConfig(task=task_name, base=BASE, max_tokens=MAX_TOKENS),
                training=TrainingConfig(strategy_options={"fine_tune": "never"} if is_text else {}),
                replay=ReplayConfig(),
                champion=None,
                experience=Experience(
                    index=0,
                    records=tuple(learnt),
                    label_space=self.task.outputs(LabelSpace(), [one.target for one in learnt]),
                    content_hash="",
                ),
                read_records=lambda ids: [],
                work=folder / "work",
                output=folder / "version",
            )
        )
        self.temperature = result.calibration.temperature
        self.answers: dict[tuple[Any, ...], Any] = {}
        self.checkpoint = load_checkpoint(folder / "version" / "checkpoint")

    @property
    def names(self) -> tuple[str, ...]:
        return self.checkpoint.model.labels.names

    def ask(self, rows: Sequence[dict[str, Any]]) -> None:
        """Ask for the probabilities of texts or words, as they would be served; once for each."""
        space = self.checkpoint.model.labels
        records = [as_record(row) for row in rows]
        known = [one for one in records if set(labels_of(one)) <= set(space.names)]
        data = encode_records(
            known, self.checkpoint, task=self.task, space=space, max_tokens=MAX_TOKENS
        )
        logits = logits_of(self.checkpoint.model, data) / self.temperature
        owners = np.repeat(data.owners.numpy(), np.diff(data.offsets.numpy()))
        ends = np.searchsorted(owners, np.arange(len(known) + 1))
        shown = np.exp(log_softmax(logits))
        for place, one in enumerate(known):
            answer = shown[ends[place] : ends[place + 1]]
            if len(answer):
                key = tuple(one.inputs.values())
                self.answers[key] = answer[0] if isinstance(one.target, str) else answer

    def opinions(self, records: Sequence[LabelledRecord]) -> list[Opinion]:
        """Put the answers to records, whatever labels these have."""
        found = ((one, self.answers.get(tuple(one.inputs.values()))) for one in records)
        return [(one, answer) for one, answer in found if answer is not None]


def labels_of(one: LabelledRecord) -> tuple[str, ...]:
    return (one.target,) if isinstance(one.target, str) else one.target


def as_record(row: dict[str, Any]) -> LabelledRecord:
    if "label" in row:
        return record({"text": row["text"]}, row["label"], "train")
    return record({"tokens": tuple(row["tokens"])}, tuple(row["tags"]), "train")


def kinds_of(row: dict[str, Any]) -> set[str]:
    """Give the class of a row, or the types of its entities."""
    return {row["label"]} if "label" in row else {tag[2:] for tag in row["tags"] if tag != "O"}


def renamed(row: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    if "label" in row:
        return {**row, "label": new if row["label"] == old else row["label"]}
    tags = [tag[:2] + new if tag[2:] == old else tag for tag in row["tags"]]
    return {**row, "tags": tags}


def wholly(
    pool: Sequence[dict[str, Any]], seed: int
) -> tuple[list[LabelledRecord], set[str], str, str]:
    """Draw a batch in which one class has the name of another, both fixed by the seed."""
    rng = random.Random(seed)
    number: dict[str, int] = {}
    for row in pool:
        for kind in kinds_of(row):
            number[kind] = number.get(kind, 0) + 1
    common = sorted(kind for kind, count in number.items() if count >= LEAST)
    old, new = rng.sample(common, 2)
    mine = [row for row in pool if old in kinds_of(row)]
    others = [row for row in pool if old not in kinds_of(row)]
    mine = rng.sample(mine, min(len(mine), BATCH // 5))
    batch = mine + rng.sample(others, min(len(others), BATCH - len(mine)))
    rng.shuffle(batch)
    records, wrong = [], set()
    for row in batch:
        one = as_record(renamed(row, old, new))
        records.append(one)
        if old in kinds_of(row):
            wrong.add(one.record_id)
    return records, wrong, old, new


def judge(
    champion: Champion, records: Sequence[LabelledRecord], wrong: set[str], proof: Proof | None
) -> dict[str, Any]:
    opinions = champion.opinions(records)
    issues = doubtful(champion.task, champion.names, opinions, proof=proof)
    right = sum(issue.record_id in wrong for issue in issues)
    pairs = count_pairs(champion.task, issues, [one for one, _ in opinions])
    first = (pairs[0]["given"], pairs[0]["suggested"]) if pairs else None
    return {"doubted": len(issues), "found": right, "first": first}


def shares(judged: Sequence[dict[str, Any]], wrong: int) -> dict[str, float]:
    doubted = sum(one["doubted"] for one in judged)
    found = sum(one["found"] for one in judged)
    return {
        "doubted": doubted,
        "precision": round(found / max(1, doubted), 3),
        "recall": round(found / max(1, wrong), 3),
    }


def measure(name: str, most: int) -> None:
    path, task_name = SETS[name]
    data = read(path)
    random.Random(0).shuffle(data)
    data = data[:most]
    cut, end = round(0.6 * len(data)), round(0.6 * len(data)) + min(PROVED, len(data) // 8)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        champion = Champion(data[:cut], task_name, Path(folder))
        champion.ask(data[cut:])
    proof = prove(
        champion.task, champion.names, champion.opinions([as_record(row) for row in data[cut:end]])
    )
    pool = data[end:]
    fitted = time.perf_counter() - began
    rules = {"of the batch": None, "of the proof": proof}
    common = {"data": name, "base": BASE, "seconds_to_fit": round(fitted, 1)}
    tenth, wrong = flipped(pool, 0)
    cases = [wholly(pool, seed) for seed in range(BATCHES)]
    for rule, given in rules.items():
        judged = judge(champion, tenth, wrong, given)
        append_row(
            "mislabelled",
            {
                "measure": "a tenth of a later batch wrong",
                **common,
                "thresholds": rule,
                "looked_at": len(tenth),
                "wrong": len(wrong),
                **shares([judged], len(wrong)),
            },
        )
        every = [judge(champion, records, bad, given) for records, bad, _, _ in cases]
        named = [
            one["first"] == (new, old) for one, (_, _, old, new) in zip(every, cases, strict=True)
        ]
        all_wrong = sum(len(bad) for _, bad, _, _ in cases)
        append_row(
            "mislabelled",
            {
                "measure": "a whole class under another's name, ten batches",
                **common,
                "thresholds": rule,
                "looked_at": BATCH * BATCHES,
                "wrong": all_wrong,
                **shares(every, all_wrong),
                "named": f"{sum(named)} of {len(named)}",
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=list(SETS))
    parser.add_argument("--rows", type=int, default=0)
    options = parser.parse_args()
    most = {"banking77": 10_000, "snips": 4_000, "snips-slots": 3_000}
    for name in [options.only] if options.only else list(SETS):
        measure(name, options.rows or most[name])


if __name__ == "__main__":
    main()
