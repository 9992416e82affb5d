"""What a strategy must keep to: it learns two experiences with a tiny model, and is watched."""

from __future__ import annotations

import random
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from contlearn.config import ModelConfig, ReplayConfig, TrainingConfig
from contlearn.plugins.hookspecs import hookimpl
from contlearn.plugins.manager import PluginManager
from contlearn.tasks.text_classification import TextClassification
from contlearn.testing.checks import check_class
from contlearn.testing.models import write_tiny_model
from contlearn.types import Experience, LabelledRecord, LabelSpace, TrainingResult

if TYPE_CHECKING:
    from contlearn.training.fit import FitRequest
    from contlearn.training.strategies.base import LearningStrategy

__all__ = ["check_strategy"]

# Words that tell a label; each text has two of its label's and two of these.
_WORDS: Final = {
    "account": ("password", "login", "profile", "email"),
    "billing": ("invoice", "refund", "charge", "payment"),
    "garden": ("tulip", "water", "soil", "hedge"),
    "music": ("song", "piano", "album", "concert"),
}
_FILLER: Final = ("please", "now", "today", "with", "about", "the")
_PER_LABEL: Final = 30
_TOKENS: Final = 16
# What the tiny random model needs; no pretrained one should be given such rates.
_TRAINING: Final = {
    "epochs": 4,
    "batch_size": 8,
    "learning_rate": 3e-3,
    "head_learning_rate": 3e-2,
}
# Of the records that were learnt, a strategy gets as many right; a third would be chance.
_LEARNT: Final = 0.7


def check_strategy(
    kind: type[LearningStrategy], *, options: Mapping[str, object] | None = None
) -> list[str]:
    """Let a strategy learn two experiences with a tiny model, and the second one twice.

    Args:
        kind: The class that a plugin registers.
        options: Of `[training.strategy_options]`.
    Returns:
        One sentence for each thing that does not hold; none for a strategy that can be used.
    Example:
        assert check_strategy(HeadOnly) == []
    """
    problems = check_class("strategy", kind)
    if problems:
        return problems
    with tempfile.TemporaryDirectory() as folder:
        try:
            return list(_Check(kind, dict(options or {}), Path(folder)).run())
        except Exception as error:  # whatever a stranger's class raises
            step = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{step.name}, line {step.lineno}"
            return [f"{kind.__name__} raises {type(error).__name__} in {where}: {error}"]


class _Check:
    """One strategy and a lineage of versions that it learns."""

    def __init__(
        self, kind: type[LearningStrategy], options: dict[str, object], folder: Path
    ) -> None:
        self.kind, self.options, self.folder = kind, options, folder
        self.manager = PluginManager(discover=False)
        if kind.name not in self.manager.table("strategy"):
            self.manager.register(_Registers(kind), name="checked", distribution="checked")
        self.task = TextClassification()
        words = [*_FILLER, *(word for own in _WORDS.values() for word in own)]
        self.base = write_tiny_model(folder / "base", words=words, max_tokens=_TOKENS)
        self.known: dict[str, LabelledRecord] = {}

    def run(self) -> list[str]:
        """Learn, and say what does not hold."""
        problems = []
        first, second = _records(("account", "billing", "garden")), _records(("garden", "music"))
        one = self._learn(first, LabelSpace(), name="one")
        champion = one.checkpoint.parent
        right = self._share_right(champion, first)
        if right < _LEARNT:
            problems.append(f"It gets {right:.0%} right of the records that it has just learnt.")
        before = _contents(champion)
        results = [
            self._learn(second, one.label_space, name=name, champion=champion, history=first)
            for name in ("two", "again")
        ]
        if _contents(champion) != before:
            problems.append("It changes the champion's files.")
        two, again = (_contents(result.checkpoint) for result in results)
        if two != again:
            problems.append("Two fits of one request give two models: draw with session.seed.")
        if self._labels(results[0].checkpoint.parent) != ("account", "billing", "garden", "music"):
            problems.append("Its model has lost a label, or their order.")
        return problems

    def _learn(
        self,
        records: Sequence[LabelledRecord],
        space: LabelSpace,
        *,
        name: str,
        champion: Path | None = None,
        history: Sequence[LabelledRecord] = (),
    ) -> TrainingResult:
        from contlearn.training.fit import fit_challenger
        from contlearn.training.optim import LearningRateWarning

        self.known.update((record.record_id, record) for record in records)
        request = self._request(records, space, name, champion, history)
        request.output.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LearningRateWarning)
            return fit_challenger(request)

    def _request(
        self,
        records: Sequence[LabelledRecord],
        space: LabelSpace,
        name: str,
        champion: Path | None,
        history: Sequence[LabelledRecord],
    ) -> FitRequest:
        from contlearn.training.fit import FitRequest

        return FitRequest(
            task=self.task,
            manager=self.manager,
            model=ModelConfig(base=str(self.base), max_tokens=_TOKENS),
            training=TrainingConfig.model_validate(
                {"strategy": self.kind.name, "strategy_options": self.options, **_TRAINING}
            ),
            replay=ReplayConfig(records_per_label=10),
            champion=champion,
            experience=Experience(
                index=0 if champion is None else 1,
                records=tuple(records),
                label_space=self.task.outputs(space, [record.target for record in records]),
                content_hash=Experience.hash_of(record.record_id for record in records),
            ),
            read_records=lambda ids: [self.known[i] for i in ids if i in self.known],
            history=tuple(history) if self.kind.reads_history else (),
            work=self.folder / f"work-{name}",
            output=self.folder / name,
        )

    def _labels(self, version: Path) -> tuple[str, ...]:
        from contlearn.modeling.checkpoint import load_checkpoint

        return load_checkpoint(version / "checkpoint").model.labels.names

    def _share_right(self, version: Path, records: Sequence[LabelledRecord]) -> float:
        from contlearn.modeling.checkpoint import load_checkpoint
        from contlearn.training.encoded import encode_records
        from contlearn.training.scoring import answers_of, logits_of

        checkpoint = load_checkpoint(version / "checkpoint")
        space = checkpoint.model.labels
        data = encode_records(records, checkpoint, task=self.task, space=space, max_tokens=_TOKENS)
        answers, targets = answers_of(self.task, data, logits_of(checkpoint.model, data), space)
        return sum(a == t for a, t in zip(answers, targets, strict=True)) / len(records)


class _Registers:
    """A plugin with one strategy."""

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind

    @hookimpl
    def contlearn_register_strategies(self) -> list[type]:
        """Give it."""
        return [self.kind]


def _records(labels: Sequence[str]) -> list[LabelledRecord]:
    """Make texts of which two words tell the label."""
    generator = random.Random("-".join(labels))
    found = []
    for number in range(_PER_LABEL * len(labels)):
        label = labels[number % len(labels)]
        words = [*generator.sample(_WORDS[label], 2), *generator.sample(_FILLER, 2)]
        generator.shuffle(words)
        found.append(
            LabelledRecord(
                record_id=f"{'-'.join(labels)}-{number}",
                inputs={"text": " ".join(words)},
                target=label,
                split="train",
                source="check_strategy",
                received_at=datetime(2030, 1, 1, tzinfo=UTC),
            )
        )
    return found


def _contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
