"""Further rules about the file that is served, off by default: name them in `gate.rules`.

Each limit is either an absolute one, which must be given, or a share of the champion's. A rule with
no limit at all is an error of the configuration, and so is a measure that nobody took.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, Field, model_validator

from contlearn.errors import EvaluationError
from contlearn.evaluation.rules import RuleOptions
from contlearn.evaluation.runtime import (
    Interval,
    latency_ratio,
    mean_latency,
    without_unknown,
)
from contlearn.interfaces import GateEvidence
from contlearn.types import RuleOutcome
from contlearn.wording import percent

__all__ = ["LabelAgreement", "Latency", "ModelSize", "UnknownTokens"]


class LabelAgreement:
    """The exported model answers like the model it was made from."""

    name: ClassVar[str] = "label-agreement"
    summary: ClassVar[str] = "the exported model answers like its source"

    class Options(RuleOptions):
        """`min_agreement`: the share of equal labels."""

        min_agreement: float = Field(gt=0.0, le=1.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Read what the export measured."""
        agreement = _fact(evidence.parity, "label_agreement", self.name)
        return (
            RuleOutcome(
                rule=self.name,
                passed=agreement >= self.options.min_agreement,
                measured=agreement,
                required=self.options.min_agreement,
                message=f"{percent(agreement)} of {evidence.parity.get('rows_checked', '?')} rows "
                f"have the label of the source model; {percent(self.options.min_agreement)} must.",
            ),
        )


class ModelSize:
    """The file that is served stays under a size, or does not outgrow the champion's."""

    name: ClassVar[str] = "size"
    summary: ClassVar[str] = "the served file stays under a size"

    class Options(RuleOptions):
        """`max_bytes` of model.onnx, `max_ratio` to the champion's, or both."""

        max_bytes: int | None = Field(None, ge=1)
        max_ratio: float | None = Field(None, gt=0.0)

        @model_validator(mode="after")
        def _one_at_least(self) -> ModelSize.Options:
            _need_one(self, "max_bytes", "max_ratio")
            return self

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Compare what the exports wrote."""
        size = _fact(evidence.parity, "size_bytes", self.name)
        outcomes = []
        most, ratio = self.options.max_bytes, self.options.max_ratio
        if most is not None:
            outcomes.append(
                RuleOutcome(
                    rule=self.name,
                    passed=size <= most,
                    measured=size,
                    required=float(most),
                    message=f"model.onnx has {size / 1e6:.1f} MB; at most {most / 1e6:.1f} MB are "
                    "allowed.",
                )
            )
        if ratio is not None:
            if not _has_champion_file(evidence):
                outcomes.append(
                    RuleOutcome.not_applicable(self.name, "no champion to compare with")
                )
            else:
                before = _fact(evidence.champion_parity, "size_bytes", self.name)
                outcomes.append(
                    RuleOutcome(
                        rule=self.name,
                        passed=size <= ratio * before,
                        measured=size / before,
                        required=ratio,
                        message=f"model.onnx has {size / 1e6:.1f} MB, the champion's "
                        f"{before / 1e6:.1f} MB: {size / before:.2f} times as much; at most "
                        f"{ratio:g} times is allowed.",
                    )
                )
        return tuple(outcomes)


class Latency:
    """A text takes no longer than allowed, with confidence.

    Both versions answer the same texts one by one in turns, on this machine. What is compared is
    the upper bound (`gate.confidence`) of the mean, or of the ratio to the champion: a time that
    cannot be told from one over the limit is refused.
    """

    name: ClassVar[str] = "latency"
    summary: ClassVar[str] = "a text takes no longer than allowed, or than on the champion"

    class Options(RuleOptions):
        """`max_seconds` a text, `max_ratio` to the champion's time, or both."""

        max_seconds: float | None = Field(None, gt=0.0)
        max_ratio: float | None = Field(None, gt=0.0)

        @model_validator(mode="after")
        def _one_at_least(self) -> Latency.Options:
            _need_one(self, "max_seconds", "max_ratio")
            return self

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Bound the mean and the ratio."""
        if "latency" not in evidence.runtime:
            raise _not_measured("latency", self.name)
        latency = evidence.runtime["latency"]
        if latency is None:
            return (RuleOutcome.not_applicable(self.name, "no held-out row to time"),)
        confidence = evidence.config.confidence
        how = f"{latency['texts']} texts, {latency['rounds']} rounds in turns"
        outcomes = []
        if self.options.max_seconds is not None:
            mean = mean_latency(latency, confidence=confidence, seed=evidence.seed)
            limit = self.options.max_seconds
            outcomes.append(
                RuleOutcome(
                    rule=self.name,
                    passed=mean.upper <= limit,
                    measured=mean.upper,
                    required=limit,
                    message=f"A text takes {1000 * mean.value:.2f} ms, with {percent(confidence)} "
                    f"confidence at most {1000 * mean.upper:.2f} ms ({how}); "
                    f"{1000 * limit:.2f} ms are allowed.",
                )
            )
        if self.options.max_ratio is not None:
            if _has_champion_file(evidence) and latency.get("champion") is None:
                raise _not_measured("latency of the champion", self.name)
            ratio = latency_ratio(latency, confidence=confidence, seed=evidence.seed)
            outcomes.append(self._against(ratio, self.options.max_ratio, confidence, how))
        return tuple(outcomes)

    def _against(
        self, ratio: Interval | None, limit: float, confidence: float, how: str
    ) -> RuleOutcome:
        if ratio is None:
            return RuleOutcome.not_applicable(self.name, "no champion to compare with")
        return RuleOutcome(
            rule=self.name,
            passed=ratio.upper <= limit,
            measured=ratio.upper,
            required=limit,
            message=f"A text takes {ratio.value:.2f} times the champion's time, with "
            f"{percent(confidence)} confidence at most {ratio.upper:.2f} times ({how}); "
            f"{limit:g} times is allowed.",
        )


class UnknownTokens:
    """The tokenizer knows the words: few pieces are the unknown one, on old and on new rows.

    Of a tokenizer that spells bytes no piece is unknown: it passes, and its outcome says why.
    """

    name: ClassVar[str] = "unknown-tokens"
    summary: ClassVar[str] = "few pieces of the texts are unknown to the tokenizer"

    class Options(RuleOptions):
        """`max_share` of all pieces, on the new rows and on the old ones."""

        max_share: float = Field(ge=0.0, le=1.0)

    def __init__(self, options: Options) -> None:
        self.options = options

    def judge(self, evidence: GateEvidence) -> tuple[RuleOutcome, ...]:
        """Read the counts; the worse of old and new decides."""
        tokens = evidence.runtime.get("tokens")
        if tokens is None:
            raise _not_measured("tokens", self.name)
        shares = []
        for is_new, which in ((True, "new"), (False, "old")):
            mine = [item for item in tokens if item["is_new"] is is_new]
            pieces = sum(item["pieces"] for item in mine)
            if pieces:
                unknown = sum(item["unknown"] for item in mine)
                shares.append((unknown / pieces, f"{unknown} of {pieces} on {which} rows"))
        if not shares:
            return (RuleOutcome.not_applicable(self.name, "no held-out rows"),)
        worst = max(share for share, _ in shares)
        message = (
            "This tokenizer cannot have unknown pieces, so the rule says nothing about the texts."
            if without_unknown(evidence.runtime)
            else f"Pieces unknown to the tokenizer: {', '.join(how for _, how in shares)}; "
            f"at most {percent(self.options.max_share)} may be."
        )
        return (
            RuleOutcome(
                rule=self.name,
                passed=worst <= self.options.max_share,
                measured=worst,
                required=self.options.max_share,
                message=message,
            ),
        )


def _need_one(options: BaseModel, *names: str) -> None:
    if all(getattr(options, name) is None for name in names):
        raise ValueError(f"give {' or '.join(names)}: without a limit the rule says nothing")


def _has_champion_file(evidence: GateEvidence) -> bool:
    """Say whether there is a champion's file to compare with, be there held-out rows or not."""
    return any(pair.champion is not None for pair in evidence.sets) or bool(
        evidence.champion_parity
    )


def _fact(facts: Any, key: str, rule: str) -> float:
    value = facts.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _not_measured(key, rule)
    return float(value)


def _not_measured(key: str, rule: str) -> EvaluationError:
    return EvaluationError(
        f"The rule {rule!r} needs {key!r}, which was not measured.",
        where="gate.rules in contlearn.toml",
        hint="Take the rule out, or judge with a predictor that measures it.",
    )
