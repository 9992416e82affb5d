"""What the replaceable parts of contlearn promise each other.

Every class behind a plugin hook carries `name` (lower-case, hyphens), a one-line `summary` and
`Options`, a pydantic model that refuses unknown keys. Its module imports heavy libraries inside
methods, so that listing plugins stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    runtime_checkable,
)

from contlearn.types import (
    Anchor,
    Calibration,
    Encoding,
    Exemplar,
    Inputs,
    LabelScore,
    LabelSpace,
    Metric,
    PairedScores,
    Prediction,
    RuleOutcome,
    Target,
)

if TYPE_CHECKING:
    from contlearn.types import FloatArray

__all__ = [
    "PRIORITIES",
    "Clock",
    "Field",
    "FieldKind",
    "FieldNames",
    "GateEvidence",
    "GateRule",
    "HeadSpec",
    "Labelling",
    "Loss",
    "Output",
    "ParsedRow",
    "Predictor",
    "Progress",
    "RecordParser",
    "Relation",
    "ReplayBuffer",
    "RowProblem",
    "Task",
    "Tokenizer",
    "View",
    "no_progress",
]

# Which vectors of the encoder a head scores: one a text, one a word, one a piece, one for a marked
# pair of spans, or those of a decoder.
View: TypeAlias = Literal["pooled", "words", "pieces", "markers", "decoder"]
# How a head's outputs are learnt: one of them is right, each is right or not, numbers, steps of an
# ordered scale, places in the text, or the next piece.
Loss: TypeAlias = Literal["softmax", "sigmoid", "squared", "ordinal", "positions", "next-piece"]
# How a person answers a row in a labelling tool: by choosing a name, by marking spans, or by
# writing a value.
Labelling: TypeAlias = Literal["choice", "spans", "value"]
# What two different targets of one input are to each other: only one can be right, or each is one
# of several right answers.
Relation: TypeAlias = Literal["conflict", "reference"]
FieldKind: TypeAlias = Literal[
    "text", "words", "span", "number", "turns", "choices", "label", "tags"
]
# progress(stage, done, total, message): called often, must return at once.
Progress: TypeAlias = Callable[[str, int, int, str], None]


# What a replay buffer may ask the model about a record, and what the task must give for that.
PRIORITIES: Final[Mapping[str, str]] = {
    "herding": "class-sums",
    "uncertainty": "classes",
    "loss": "classes",
}


def no_progress(_stage: str, _done: int, _total: int, _message: str) -> None:
    """Show nothing; the default wherever a progress callback is taken."""


class RowProblem(Exception):
    """A row is wrong; carries the reason code, a message and what to do.

    Tasks and formats raise it; whoever reads rows makes a refused row or an answer of it, so that
    it never ends a program.
    """

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

    def of(self, field: str) -> str:
        """Give the configured name of a field; a field without a key has its own."""
        found: str = getattr(self, field, field)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """One head on the encoder: what it is called in the graph, what it scores, how it is learnt.

    Args:
        name: The graph's output; "logits".
        outputs: What each number of a row is the score of.
        view: What one row of scores belongs to; training, export and serving go by it.
        loss: The loss of a row. Of today's losses "softmax" and "positions" take a position as the
            target, "ordinal" how many steps of the scale are reached, "sigmoid" and "squared" one
            number for each output.
    """

    name: str
    outputs: LabelSpace
    view: View = "pooled"
    loss: Loss = "softmax"


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a task's rows, by the name that `[data]` can replace.

    Args:
        name: As `FieldNames` calls it; a name that it does not know is taken as it is.
        kind: What stands in it.
        is_target: Whether it is what a person answers, and so not there in a row to predict.
        example: What a new contlearn.toml and the documentation of the server show.
    """

    name: str
    kind: FieldKind
    is_target: bool = False
    example: object = None


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that the server answers beside JSON, one value or one row of values an input.

    Args:
        name: Its name.
        datatype: BYTES, FP32, INT64 or BOOL, as the Open Inference Protocol calls them.
        width: How many values an input has; None for one that is not in a list.
    """

    name: str
    datatype: str
    width: int | None = None


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
    """What a kind of text model is: its rows, its outputs, its encoding, its measures.

    `contlearn.tasks.base.TaskBase` gives most of it; a task overrides what is its own. Everything
    here is torch-free. A record becomes one `Encoding` or several (windows of a long context), the
    graph answers one array a head, and `decode` turns the answers of one record's encodings into
    one prediction. Measures are functions of additive counts, so that a bootstrap and a report use
    the same code. Nothing outside a task's module asks which task it is.

    `gives` says what it offers to those who need more than this:

        classes         of each row of scores one output is right, and is learnt by softmax
        confidence      every prediction has one calibrated confidence
        scores          every prediction has the probability of each label, and its target is one
        class-sums      its rows are one a text and their targets positions, so that heads can be
                        computed from sums of features
        probabilities   the softmax of a row of logits gives the probability of each output, and
                        `units` names the right one of each row
        energy          logits of texts that the model was never taught are flat
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    family: ClassVar[Literal["encoder", "encoder-decoder"]]
    Options: ClassVar[type[Any]]
    # The pipeline of transformers that answers the same; None where there is none.
    pipeline: ClassVar[str | None]
    fields: ClassVar[tuple[Field, ...]]
    metrics: ClassVar[tuple[Metric, ...]]
    primary_metric: ClassVar[str]
    gives: ClassVar[frozenset[str]]
    labelling: ClassVar[Labelling]
    # What joins the labels in a balance key; None where the key is one label, or none at all.
    key_separator: ClassVar[str | None]
    # Intake decides from hashes, a million rows at a time, so it is said once for all targets.
    relation: ClassVar[Relation]
    # The reason code of a label that cannot be used.
    label_reason: ClassVar[str]

    # -- rows ------------------------------------------------------------------------------------

    def needed_fields(self, names: FieldNames) -> tuple[str, ...]:
        """Name the fields that a labelled row must have, as the configuration calls them."""
        ...

    def tidy(
        self, row: Mapping[str, object], names: FieldNames, known: Container[str]
    ) -> tuple[Mapping[str, object], tuple[tuple[str, str], ...]]:
        """Put right what can be put right in a row that comes from a file, and say what was.

        Args:
            row: As it came.
            names: The configured names.
            known: The labels, and their other names, that are known.
        Returns:
            The row, and (code, message) of each thing to be said.
        Raises:
            RowProblem: When the row belongs to another task.
        """
        ...

    def read_fields(self, row: Mapping[str, object], names: FieldNames) -> tuple[Inputs, Target]:
        """Check one row and take its inputs and target out; texts stay as they came.

        Raises:
            RowProblem: With the reason code of the first thing that is wrong.
        """
        ...

    def read_inputs(self, row: Mapping[str, object] | str, names: FieldNames) -> Inputs:
        """Check an unlabelled row or a bare text, for prediction."""
        ...

    def write_row(self, inputs: Inputs, target: Target, names: FieldNames) -> dict[str, Any]:
        """Write a row that `read_fields` reads as the same."""
        ...

    def join(self, inputs: Inputs, answer: object, names: FieldNames) -> dict[str, Any]:
        """Make a row of an input that was predicted and of what a person answered to it."""
        ...

    def probe(self, text: str) -> Inputs:
        """Make an input of a text that we wrote, for golden answers and for comparing exports."""
        ...

    def text_of(self, inputs: Inputs) -> str:
        """Give the text that lengths, detectors and pages go by."""
        ...

    def normal_of(self, inputs: Inputs) -> str:
        """Give the form that duplicates and the split go by."""
        ...

    # -- labels ----------------------------------------------------------------------------------

    def labels_of(self, target: Target) -> tuple[str, ...]:
        """Give the label names in a target as users know them: the class, the entity types."""
        ...

    def labels_in(self, row: Mapping[str, object], names: FieldNames) -> frozenset[str]:
        """Give the label names in a row that was refused, as far as it can be read."""
        ...

    def labels_of_key(self, key: str) -> tuple[str, ...]:
        """Give the label names that a balance key is made of."""
        ...

    def label_names(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Give the labels, as users know them, that outputs stand for."""
        ...

    def renamed(self, target: Target, names: Mapping[str, str]) -> Target:
        """Give a target with label names replaced."""
        ...

    def balance_key(self, target: Target) -> str:
        """Give the key that replay balances over."""
        ...

    def outputs(self, space: LabelSpace, targets: Iterable[Target]) -> LabelSpace:
        """Append the outputs that the targets need; sorted by name within one call."""
        ...

    def space_from_labels(self, labels: Sequence[str]) -> LabelSpace:
        """Make the outputs of a closed set of user-level labels."""
        ...

    # -- model -----------------------------------------------------------------------------------

    def heads(self, space: LabelSpace) -> tuple[HeadSpec, ...]:
        """Describe the heads on the encoder."""
        ...

    def special_pieces(self) -> tuple[str, ...]:
        """Name the pieces that must be added to the tokenizer: markers of spans, turns."""
        ...

    def encode(
        self, tokenizer: Tokenizer, inputs: Sequence[Inputs], max_tokens: int
    ) -> list[tuple[Encoding, ...]]:
        """Tokenise records; each becomes one encoding or several windows."""
        ...

    def learn(
        self, target: Target, encodings: tuple[Encoding, ...], space: LabelSpace
    ) -> tuple[Any, ...]:
        """Give what the head's loss takes, one for each row of scores: see `HeadSpec`."""
        ...

    def decode(
        self,
        outputs: Sequence[Mapping[str, FloatArray]],
        encodings: tuple[Encoding, ...],
        inputs: Inputs,
        space: LabelSpace,
        calibration: Calibration,
    ) -> Prediction:
        """Turn the graph's answers for one record into a prediction.

        A client may send token ids of its own: then a pooled head is decoded without inputs.

        Shape: outputs[w][head] is (C,) for a pooled head and (rows, C) for any other.
        """
        ...

    def calibrate(self, rows: FloatArray, targets: Any, space: LabelSpace) -> Calibration:
        """Fit what `decode` is given, on rows that were not learnt.

        Shape: rows (n, C), the head's; targets (n,) or (n, C), as `learn` gives them.
        """
        ...

    # -- measures --------------------------------------------------------------------------------

    def agree(self, first: Target, second: Target) -> bool:
        """Say whether two answers are the same to a user: for shadow, golden answers, flips."""
        ...

    def credit(self, answer: Target, target: Target) -> float:
        """Say how right an answer is, from 0 to 1; 1 counts as right."""
        ...

    def key_of(self, target: Target) -> str:
        """Name a target in few characters and without a text, as `Prediction.key` or label."""
        ...

    def units(self, target: Target) -> tuple[str, ...]:
        """Give the smallest things that are right or wrong: the class, or each word's tag."""
        ...

    def unit_label(self, unit: str) -> str | None:
        """Give the user-level label that a unit stands for; None where it stands for none."""
        ...

    def baseline(self, targets: Sequence[Target]) -> tuple[Target, ...]:
        """Answer without looking at the inputs, as well as that can be done."""
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
        """Give precision, recall and F1 of every label; none for a task without. Shape: (S,)."""
        ...

    def confusion(
        self, answers: Sequence[Target], targets: Sequence[Target]
    ) -> dict[str, object] | None:
        """Give `labels` and the count `matrix` (rows are targets), or None without meaning."""
        ...

    # -- what is kept and shown ------------------------------------------------------------------

    def stored(self, target: Target) -> Target:
        """Give a target or an answer as it is remembered with a version.

        Versions are kept whatever is forgotten later, so it holds no text of a user. All measures
        take targets in this form.
        """
        ...

    def shown(self, target: Target, words: Sequence[str] | None = None) -> str:
        """Write a target for people; `words` are those of the text, where they are at hand."""
        ...

    def cells(self, value: Mapping[str, Any]) -> tuple[dict[str, str | float], ...]:
        """Give the rows of a table that show a prediction's `value`: cells by their titles."""
        ...

    def schema(self) -> dict[str, Any]:
        """Give the JSON Schema of a prediction's `value`."""
        ...

    def tensors(self, space: LabelSpace) -> tuple[Output, ...]:
        """Name the tensors that answer a request of the Open Inference Protocol."""
        ...

    def tensor_values(self, prediction: Prediction, space: LabelSpace) -> dict[str, Any]:
        """Give one value, or one list of values, for each of `tensors`."""
        ...


class Predictor(Protocol):
    """Answers texts with an exported version."""

    label_space: LabelSpace

    def predict(self, inputs: Sequence[Inputs]) -> list[Prediction]:
        """Predict one answer per input, in order."""
        ...


class ReplayBuffer(Protocol):
    """A bounded store of past training records, by id.

    One that keeps what the model finds most worth keeping names one of `PRIORITIES` in the class
    attribute `priority`; `Exemplar.priority` then holds it, higher for what is kept longer. One
    without the attribute, or with "" in it, asks for nothing.

    Source: reservoir sampling after Vitter, "Random Sampling with a Reservoir", 1985.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def __init__(
        self, *, capacity_records: int, capacity_bytes: int, records_per_label: int, seed: int
    ) -> None:
        """Begin empty, with the bounds of `[replay]`; 0 records a label for no such bound."""
        ...

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
    `check(config)`, which raises ConfigError before anything runs. An outcome that does not pass
    refuses the challenger, unless it `keeps`: then it is not worth the change, and nothing worse.
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
    nothing was measured. `anchor` is the best proven version of the lineage, None at first.
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
    anchor: Anchor | None = None
