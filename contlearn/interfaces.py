"""What the replaceable parts of contlearn promise each other.

Every class behind a plugin hook carries `name` (lower-case, hyphens), a one-line `summary` and
`Options`, a pydantic model that refuses unknown keys. Its module imports heavy libraries inside
methods, so that listing plugins stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from contlearn.types import (
    Encoding,
    Exemplar,
    Inputs,
    LabelScore,
    LabelSpace,
    PairedScores,
    Prediction,
    RuleOutcome,
    Target,
)

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = [
    "Clock",
    "Exporter",
    "FieldNames",
    "GateEvidence",
    "GateRule",
    "GraphKind",
    "HeadSpec",
    "ParsedRow",
    "Predictor",
    "Progress",
    "RecordParser",
    "ReplayBuffer",
    "RowProblem",
    "Task",
    "Tokenizer",
    "no_progress",
]

GraphKind: TypeAlias = Literal["sequence-classification", "token-classification", "seq2seq"]
# progress(stage, done, total, message): called often, must return at once.
Progress: TypeAlias = Callable[[str, int, int, str], None]


def no_progress(_stage: str, _done: int, _total: int, _message: str) -> None:
    """Show nothing; the default wherever a progress callback is taken."""


class RowProblem(Exception):
    """A row is wrong; carries the reason code, a message and what to do. Never leaves `data`."""

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldNames:
    """Which fields of a row hold what; the names come from `[data]` in contlearn.toml."""

    text: str = "text"
    label: str = "label"
    tokens: str = "tokens"
    tags: str = "tags"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """One output of the graph: its name, what one row of it scores, and the labels it scores.

    `per` is "sequence" for one row of scores a text, "word" for one a word; other units (span
    starts, choices, decoder steps) are for tasks to come.
    """

    name: str
    per: str
    labels: LabelSpace


class Clock(Protocol):
    """Time as the program sees it; a test gives its own."""

    def now(self) -> datetime:
        """Give the present moment, aware and in UTC."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never run backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Tokenizer(Protocol):
    """The part of `tokenizers.Tokenizer` that tasks use; padding and truncation stay off."""

    @property
    def model(self) -> Any:
        """Give the model inside, which knows its unknown piece."""
        ...

    def encode_batch(
        self, input: Sequence[Any], is_pretokenized: bool = ..., add_special_tokens: bool = ...
    ) -> list[Any]:
        """Tokenise several inputs."""
        ...

    def token_to_id(self, token: str) -> int | None:
        """Give the id of a piece."""
        ...

    def id_to_token(self, id: int) -> str | None:
        """Give the piece of an id."""
        ...


@runtime_checkable
class Task(Protocol):
    """What a kind of text model is: its rows, its labels, its encoding, its measures.

    Everything here is torch-free. A record becomes one `Encoding` or several (windows of a long
    context), the graph answers one array a head, and `decode` turns the answers of one record's
    encodings into one prediction. Measures are functions of additive counts, so that a bootstrap
    and a report use the same code.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    graph: ClassVar[GraphKind]
    primary_metric: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]

    def needed_fields(self, fields: FieldNames) -> tuple[str, ...]:
        """Name the fields that a labelled row must have, as the configuration calls them."""
        ...

    def read_fields(self, row: Mapping[str, object], fields: FieldNames) -> tuple[Inputs, Target]:
        """Check one row and take its inputs and target out; texts stay as they came.

        Raises:
            RowProblem: With the reason code of the first thing that is wrong.
        """
        ...

    def read_inputs(self, row: Mapping[str, object] | str, fields: FieldNames) -> Inputs:
        """Check an unlabelled row or a bare text, for prediction."""
        ...

    def text_of(self, inputs: Inputs) -> str:
        """Give the text that duplicates, the split and lengths go by."""
        ...

    def labels_of(self, target: Target) -> tuple[str, ...]:
        """Give the label names in a target as users know them: the class, the entity types."""
        ...

    def balance_key(self, target: Target) -> str:
        """Give the key that replay balances over."""
        ...

    def extend_labels(self, space: LabelSpace, targets: Iterable[Target]) -> LabelSpace:
        """Append the outputs that the targets need; sorted by name within one call."""
        ...

    def space_from_labels(self, labels: Sequence[str]) -> LabelSpace:
        """Make the output space of a closed set of user-level labels."""
        ...

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        """Describe the outputs of the graph."""
        ...

    def encode(
        self, tokenizer: Tokenizer, inputs: Sequence[Inputs], max_tokens: int
    ) -> list[tuple[Encoding, ...]]:
        """Tokenise records; each becomes one encoding or several windows."""
        ...

    def encode_target(
        self, target: Target, encodings: tuple[Encoding, ...], space: LabelSpace
    ) -> tuple[int, ...]:
        """Give the label positions to learn: one for a class, one for each encoded word."""
        ...

    def decode(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        encodings: tuple[Encoding, ...],
        inputs: Inputs,
        space: LabelSpace,
        temperature: float,
    ) -> Prediction:
        """Turn the graph's answers for one record into a prediction.

        Shape: outputs[w]["logits"] is (C,) for a sequence head and (words, C) for a word head.
        """
        ...

    def answer(self, prediction: Prediction) -> Target:
        """Give the part of a prediction that is compared with a target."""
        ...

    def statistics(
        self, answers: Sequence[Target], targets: Sequence[Target], labels: LabelSpace
    ) -> FloatArray:
        """Count, for each row, what the metrics are made of. `labels` covers all that occur.

        Shape: (rows, S); S depends only on `labels`.
        """
        ...

    def summarise(self, sums: FloatArray, labels: LabelSpace) -> dict[str, FloatArray]:
        """Turn sums of counts into metrics, over any leading dimensions.

        Shape: sums (..., S); each metric (...).
        """
        ...

    def per_label(self, sums: FloatArray, labels: LabelSpace) -> tuple[LabelScore, ...]:
        """Give precision, recall and F1 of every label. Shape: sums (S,)."""
        ...

    def confusion(
        self, answers: Sequence[Target], targets: Sequence[Target]
    ) -> dict[str, object] | None:
        """Give `labels` and the count `matrix` (rows are targets), or None without meaning."""
        ...


class Predictor(Protocol):
    """Answers texts with an exported version."""

    label_space: LabelSpace

    def predict(self, inputs: Sequence[Inputs]) -> list[Prediction]:
        """Predict one answer per input, in order."""
        ...


class ReplayBuffer(Protocol):
    """A bounded store of past training records, by id.

    Source: reservoir sampling after Vitter, "Random Sampling with a Reservoir", 1985.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def add(self, exemplars: Iterable[Exemplar]) -> None:
        """Offer records of an experience that was learnt."""
        ...

    def remove(self, record_ids: Iterable[str]) -> int:
        """Take records out for good; give how many were there."""
        ...

    def items(self) -> tuple[Exemplar, ...]:
        """Give what is kept, in a stable order."""
        ...

    def state(self) -> dict[str, object]:
        """Give everything `load_state` needs, as JSON values, the generator's state included."""
        ...

    def load_state(self, state: Mapping[str, object]) -> None:
        """Become the buffer that `state` was taken from."""
        ...


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """One row of a file as a mapping, or what is wrong with it. `number` is what a person counts.

    `warnings` are (code, message) pairs for a row that is used all the same.
    """

    number: int
    row: Mapping[str, object] | None = None
    problem: RowProblem | None = None
    raw: str = ""
    warnings: tuple[tuple[str, str], ...] = ()


class RecordParser(Protocol):
    """Reads the rows of one file format.

    A row that cannot be read is yielded with its problem and reading goes on; a file that cannot
    be trusted as a whole raises RecordError with the reason code as its `where`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def rows(self, path: Path, limits: Any, needed: Sequence[str] = ()) -> Iterator[ParsedRow]:
        """Yield the rows in order.

        Args:
            path: The file; its name ends as it did when it came.
            limits: The `LimitsConfig` in force.
            needed: Columns that a format with a header must have.
        """
        ...


class GateRule(Protocol):
    """One condition of promotion: a pure function of the evidence.

    A rule that depends on other keys of the configuration than its own options may have a method
    `check(config)`, which raises ConfigError before anything runs.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[Any]]

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Measure, compare, and say why; one outcome, or one for each thing looked at."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvidence:
    """All that a gate rule may look at. `config` is the GateConfig in force.

    `parity` and `champion_parity` are what the exports measured (precision, size_bytes,
    label_agreement, …), `runtime` what runtime.json holds (latency, tokens); each is empty where
    nothing was measured.
    """

    task: Task
    labels: LabelSpace
    sets: tuple[PairedScores, ...]
    metric: str
    config: Any
    seed: int
    parity: Mapping[str, object]
    champion_parity: Mapping[str, object] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)


class Exporter(Protocol):
    """Writes a checkpoint as files that a server loads."""

    name: ClassVar[str]
    summary: ClassVar[str]
