"""The values that pass between packages: frozen, plain, and free of heavy imports."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray: TypeAlias = NDArray[np.floating[Any]]
    IntArray: TypeAlias = NDArray[np.integer[Any]]

__all__ = [
    "CHANCE_OF_LOSS",
    "Calibration",
    "CycleOutcome",
    "CycleState",
    "Encoding",
    "Entity",
    "Event",
    "Exemplar",
    "Experience",
    "ExportReport",
    "HeldOutSet",
    "Inputs",
    "LabelScore",
    "LabelSpace",
    "LabelledRecord",
    "Metric",
    "PairedScores",
    "Prediction",
    "PromotionDecision",
    "RecordState",
    "RejectedRecord",
    "RuleOutcome",
    "SetScores",
    "Split",
    "Target",
    "TrainingResult",
    "Unread",
    "UnreadReason",
    "Verdict",
    "label_name",
]

# `RuleOutcome.measure`: the chance that the challenger is truly worse by the margin.
CHANCE_OF_LOSS: Final = "chance_of_loss"

Split: TypeAlias = Literal["train", "held_out"]
UnreadReason: TypeAlias = Literal["no-pieces", "cut"]
RecordState: TypeAlias = Literal[
    "pending", "learnt", "refused", "kept", "held", "superseded", "forgotten"
]
CycleState: TypeAlias = Literal[
    "planned",
    "training",
    "exporting",
    "evaluating",
    "deciding",
    "awaiting-approval",
    "promoting",
    "promoted",
    "refused",
    "kept",
    "not-promoted",
    "failed",
]
CycleOutcome: TypeAlias = Literal[
    "promoted", "refused", "kept", "awaiting-approval", "not-promoted", "nothing-to-do", "failed"
]
# What the gate says of a challenger: it may serve, it may not, or it is not worth the change.
Verdict: TypeAlias = Literal["promoted", "refused", "kept"]

# The named fields of one record: {"text": "…"}, or {"tokens": ("…", …)} for tagging.
Inputs: TypeAlias = Mapping[str, "str | tuple[str, ...]"]
# What is learnt of a record, as values of JSON with tuples for lists: a class name, one tag a word,
# a number, or what else a task reads; the task alone knows which.
Target: TypeAlias = "str | float | tuple[Any, ...] | Mapping[str, Any]"


# White space of every kind, and the byte order mark that joining files leaves behind.
_AROUND_LABELS = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007"
    "\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
)


def label_name(text: str) -> str:
    r"""Give a label as it is kept: composed (NFC), without white space or byte order marks around.

    Example:
        >>> label_name(" cafe\u0301\u00a0")
        'café'
    """
    return unicodedata.normalize("NFC", text).strip(_AROUND_LABELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRecord:
    """One labelled example, as it came in and as it is kept.

    `record_id` is the hash of the normalised inputs and the target; `split` is fixed once, when
    the record is first seen, and never changes. `slices` are the fields named in `data.slices`.
    """

    record_id: str
    inputs: Inputs
    target: Target
    split: Split
    source: str
    received_at: datetime
    group: str | None = None
    weight: float = 1.0
    annotator: str | None = None
    timestamp: datetime | None = None
    slices: Mapping[str, str] = field(default_factory=dict)

    @property
    def group_key(self) -> str:
        """What is never divided: the group, or the record alone where it has none."""
        return self.group or self.record_id


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRecord:
    """A row that cannot be used: where it stood, why, and what to do. `row` is what was read."""

    source: str
    line_number: int
    reason: str
    message: str
    hint: str
    row: str = ""


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """Ordered label names of a model's outputs; only ever appended to.

    Example:
        >>> LabelSpace(("no", "yes")).extended(["maybe", "yes"]).names
        ('no', 'yes', 'maybe')
    """

    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"A label stands twice in {self.names!r}.")

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def index(self) -> dict[str, int]:
        """Give the output position of every label name."""
        return {name: position for position, name in enumerate(self.names)}

    def extended(self, names: Iterable[str]) -> LabelSpace:
        """Append the names that are not there yet, in the order given."""
        known = dict.fromkeys(self.names)
        known.update(dict.fromkeys(names))
        return LabelSpace(tuple(known))


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """The training records of one update. `index` counts promoted experiences on the lineage."""

    index: int
    records: tuple[LabelledRecord, ...]
    label_space: LabelSpace
    content_hash: str

    @staticmethod
    def hash_of(record_ids: Iterable[str]) -> str:
        """Hash a set of record ids, whatever their order."""
        digest = hashlib.sha256()
        for record_id in sorted(record_ids):
            digest.update(record_id.encode("ascii") + b"\n")
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """One item of a replay buffer: a record by its id, its balance key, and its size.

    `priority` is what policies that choose by the model's view compare; higher stays longer.
    """

    record_id: str
    key: str
    size_bytes: int
    priority: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """One tokenised input: what the graph reads, and how its pieces map back to words.

    `word_starts` are the positions of the first pieces of the words that are read, `words` which
    words of the input those are. Of the others, `lost_words` are those of which the tokenizer makes
    no piece, `cut_words` those beyond the token limit: each word stands in one of the three. A
    single-sequence task leaves all of them empty, and ids that came without words leave `words` so.
    """

    input_ids: tuple[int, ...]
    word_starts: tuple[int, ...] = ()
    truncated: bool = False
    unknown_pieces: int = 0
    words: tuple[int, ...] = ()
    lost_words: tuple[int, ...] = ()
    cut_words: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A typed span; `start` and `end` count characters, the end exclusive."""

    start: int
    end: int
    type: str
    text: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Words the model did not read, and so answered with no entity: where they stand, and why.

    The reason is "no-pieces" where the tokenizer makes no piece of a word, and "cut" for everything
    beyond the token limit.
    """

    start: int
    end: int
    reason: UnreadReason

    def to_json(self) -> dict[str, object]:
        """Give it as plain values."""
        return {"start": self.start, "end": self.end, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer of a model, of whatever task.

    Args:
        value: What a client is given, as JSON values. Where a task gives `scores`, they stand here:
            the calibrated probability of each label.
        target: The part that is compared with a record's target.
        labels: The labels in the answer as users know them, for metrics, drift and logs.
        confidence: How sure the model is of the answer as a whole, from 0 to 1; None where a task
            has no such number.
        key: Names the answer in few characters and without a text, so that a label that comes
            later can be compared with it; None where the first label does that.
    """

    value: Mapping[str, Any]
    target: Target
    labels: tuple[str, ...] = ()
    confidence: float | None = None
    key: str | None = None

    @property
    def scores(self) -> Mapping[str, float] | None:
        """The probability of each label, where the task gives them."""
        found: Mapping[str, float] | None = self.value.get("scores")
        return found

    def to_json(self) -> dict[str, Any]:
        """Give what a client is given."""
        return dict(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What turns raw outputs into answers that mean what they say; part of a version's manifest.

    Args:
        temperature: Logits are divided by it before they become probabilities.
        numbers: What else a task fits on rows set aside: thresholds, a score of no answer.
    """

    temperature: float = 1.0
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give the fields of the manifest; `calibration` only where there is more to it."""
        more = {"calibration": dict(self.numbers)} if self.numbers else {}
        return {"temperature": self.temperature, **more}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` gave; manifests without it are not calibrated."""
        return cls(
            temperature=float(value.get("temperature", 1.0)),
            numbers=dict(value.get("calibration") or {}),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutSet:
    """The held-out records of one experience. `is_new` marks the set of the experience on trial.

    `kept` are the ids of those that an earlier update measured and kept for this one.
    """

    experience: str
    index: int
    records: tuple[LabelledRecord, ...]
    is_new: bool = False
    kept: frozenset[str] = frozenset()

    @property
    def content_hash(self) -> str:
        """Identify the set by the records in it."""
        return Experience.hash_of(record.record_id for record in self.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measure of a task: what it is called, which way is better, and what it is counted in.

    Args:
        name: As JSON and the configuration call it.
        higher_is_better: Whether more of it is better.
        unit: What it is counted in; empty for a share from 0 to 1, which people read in percent.
        is_share_of_rows: Whether it is the share of rows whose whole answer is right, so that
            tests of right and wrong rows are exact for it.
    """

    name: str
    higher_is_better: bool = True
    unit: str = ""
    is_share_of_rows: bool = False

    def oriented(self, value: Any) -> Any:
        """Turn values, or an array of them, so that more is better; and turn them back."""
        return value if self.higher_is_better else -value

    @property
    def is_share(self) -> bool:
        """Whether it is a share of which more is better, as most are; reports say which are not."""
        return self.higher_is_better and not self.unit

    def to_json(self) -> dict[str, Any]:
        """Give what a report says of it."""
        return {"unit": self.unit, "higher_is_better": self.higher_is_better}


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """Precision, recall and F1 of one label, with the number of times it was expected."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScores:
    """How one version does on one held-out set.

    `statistics` are the task's additive counts per row, (rows, S): every metric is a function of
    their sum, so that a bootstrap only reweighs rows. `predictions`, `credits` (how right each is;
    1 counts as right) and `confidences` follow the rows; a task without one confidence a row leaves
    the last empty.
    """

    experience: str
    index: int
    rows: int
    metrics: Mapping[str, float]
    statistics: FloatArray
    predictions: tuple[Target, ...] = ()
    credits: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedScores:
    """Champion and challenger on the same rows of one held-out set; champion is None at first.

    `anchor` is the best proven version on them, None where that is the champion, or the set is new.
    `kept` are the places of new rows that an earlier update measured and kept for this one.
    `targets` follow the rows. `baseline` is the best answer that does not look at the inputs:
    always the commonest label; `majority` is its primary metric. `slices` gives each row's value of
    each slice ("script" → one script a row), empty where it has none.
    """

    experience: str
    index: int
    is_new: bool
    challenger: SetScores
    champion: SetScores | None
    anchor: SetScores | None = None
    kept: tuple[int, ...] = ()
    majority: float | None = None
    baseline: SetScores | None = None
    targets: tuple[Target, ...] = ()
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The best proven version of a lineage, as a cycle finds it.

    `look` counts the challengers that only the comparison with it could stop, this one included,
    over the whole lineage; `reset` is the journal's record from which a person wanted the count to
    begin anew, 0 where nobody did.
    """

    version: int
    look: int = 1
    reset: int = 0

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Anchor:
        """Read what `to_json` gave."""
        return cls(version=value["version"], look=value["look"], reset=value["reset"])

    def to_json(self) -> dict[str, int]:
        """Give the anchor as a job and the numbers of a cycle hold it."""
        return {"version": self.version, "look": self.look, "reset": self.reset}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOutcome:
    """What one gate rule measured and required. `passed` is None when the rule does not apply.

    Where `passed` is False, `keeps` says that nothing speaks against the challenger: it is not
    worth the change, the champion stays, and the records are learnt with what comes next.
    `measure` names what `measured` and `required` are, where that depends on the evidence.
    """

    rule: str
    passed: bool | None
    measured: float | None
    required: float | None
    message: str
    keeps: bool = False
    measure: str = ""

    @property
    def refuses(self) -> bool:
        """Whether the rule speaks against the challenger."""
        return self.passed is False and not self.keeps

    @property
    def is_not_worth(self) -> bool:
        """Whether the rule finds the challenger not worth the change, and nothing worse."""
        return self.passed is False and self.keeps

    @property
    def verdict(self) -> str:
        """Say in words what the rule found."""
        if self.is_not_worth:
            return "not worth it"
        return {True: "passed", False: "refused", None: "not applicable"}[self.passed]

    @classmethod
    def not_applicable(cls, rule: str, why: str) -> RuleOutcome:
        """Say why a rule has nothing to judge, without a full stop."""
        return cls(
            rule=rule, passed=None, measured=None, required=None, message=f"Not applicable: {why}."
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RuleOutcome:
        """Read what `to_json` gave; what an earlier contlearn did not write is empty."""
        return cls(
            rule=str(value.get("rule") or ""),
            passed=value.get("passed"),
            measured=value.get("measured"),
            required=value.get("required"),
            message=str(value.get("message") or ""),
            keeps=value.get("keeps") is True,
            measure=str(value.get("measure") or ""),
        )

    def to_json(self) -> dict[str, object]:
        """Give the outcome as the `reasons[]` entry that `update --json` prints."""
        more: dict[str, object] = {"keeps": True} if self.keeps else {}
        if self.measure:
            more["measure"] = self.measure
        return {
            "rule": self.rule,
            "passed": self.passed,
            "measured": self.measured,
            "required": self.required,
            "message": self.message,
            **more,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionDecision:
    """The verdict of the gate: every rule's outcome, also those after the first refusal."""

    champion: int | None
    challenger: int | None
    promoted: bool
    outcomes: tuple[RuleOutcome, ...]
    warnings: tuple[str, ...] = ()

    @property
    def refusals(self) -> tuple[RuleOutcome, ...]:
        """Give what spoke against the challenger."""
        return tuple(outcome for outcome in self.outcomes if outcome.refuses)

    @property
    def not_worth(self) -> tuple[RuleOutcome, ...]:
        """Give what found the challenger not worth the change."""
        return tuple(outcome for outcome in self.outcomes if outcome.is_not_worth)

    @property
    def verdict(self) -> Verdict:
        """Say what becomes of the challenger; decisions of earlier versions never kept."""
        if self.promoted:
            return "promoted"
        return "kept" if self.not_worth and not self.refusals else "refused"

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PromotionDecision:
        """Read what decision.json holds."""
        return cls(
            champion=value.get("champion"),
            challenger=value.get("challenger"),
            promoted=value.get("promoted") is True,
            outcomes=tuple(map(RuleOutcome.from_json, value.get("outcomes") or ())),
            warnings=tuple(value.get("warnings") or ()),
        )

    def to_json(self) -> dict[str, Any]:
        """Give the decision as decision.json holds it."""
        return {
            "format_version": 1,
            "champion": self.champion,
            "challenger": self.challenger,
            "promoted": self.promoted,
            "verdict": self.verdict,
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a fit leaves behind: a checkpoint folder, a state folder, and how they came about."""

    checkpoint: Path
    state: Path
    label_space: LabelSpace
    strategy: str
    options: Mapping[str, object]
    steps: int
    seconds: float
    seed: int
    calibration: Calibration = field(default_factory=Calibration)
    trained_share: float = 1.0
    notes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What the export made and how it compares with the model it was made from.

    `relative_difference` is the largest difference of a score by `logit_spread`, the standard
    deviation of the source's scores (at least 1); `required` says what was asked of it and of the
    agreement (None: nothing, as of a rounded graph's scores). `recipe` says how an 8-bit graph was
    rounded; `tried` holds what was measured of each precision on the way to the choice; `warnings`
    are those of the notes that an update tells. Inputs are cut at `max_tokens`; the encoder itself
    has places for `position_limit` (None: any number); `pad_id` fills rows that are shorter than
    others.
    """

    folder: Path
    precision: str
    max_abs_difference: float
    relative_difference: float
    logit_spread: float
    required: Mapping[str, float | None]
    label_agreement: float
    rows_checked: int
    fused: Mapping[str, int]
    size_bytes: int
    processor: tuple[str, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    recipe: str = ""
    tried: tuple[Mapping[str, Any], ...] = ()
    max_tokens: int | None = None
    position_limit: int | None = None
    pad_id: int = 0

    def to_json(self) -> dict[str, Any]:
        """Give everything but the folder, as manifests hold it."""
        return {
            "precision": self.precision,
            "recipe": self.recipe,
            "max_abs_difference": self.max_abs_difference,
            "relative_difference": self.relative_difference,
            "logit_spread": self.logit_spread,
            "required": dict(self.required),
            "label_agreement": self.label_agreement,
            "rows_checked": self.rows_checked,
            "fused": dict(self.fused),
            "size_bytes": self.size_bytes,
            "processor": list(self.processor),
            "max_tokens": self.max_tokens,
            "position_limit": self.position_limit,
            "pad_id": self.pad_id,
            "tried": [dict(item) for item in self.tried],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, for observers: plugins, logs, notifications.

    `kind` is one of the names in `contlearn.plugins.hookspecs`; `fields` are plain values and
    never hold a record's text.
    """

    kind: str
    at: datetime
    workspace: str
    fields: Mapping[str, object] = field(default_factory=dict)
