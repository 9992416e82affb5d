"""One look at production: drift, accuracy with and without labels, signals for the daemon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from contlearn.context import Context
from contlearn.errors import EvaluationError, ServingError, StorageError, TooFewPredictions
from contlearn.monitoring.prediction_log import read_predictions
from contlearn.monitoring.signals import (
    AccuracySignal,
    DriftSignal,
    Signals,
    append_look,
    read_signals,
    write_signals,
)
from contlearn.operations.drift_accuracy import look_at_accuracy

if TYPE_CHECKING:
    from contlearn.monitoring.drift_check import DriftCheck

__all__ = ["LOOK_FORMAT", "look", "look_and_record", "newest_version", "record_look"]

LOOK_FORMAT: Final = 1
_EXPLAINED: Final = 12
# Windows overlap: only a look at so much that is new says anything new.
_NEW_SHARE: Final = 0.2


def look(
    context: Context,
    *,
    window: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    version: int | None = None,
    examples: int = 5,
) -> dict[str, Any]:
    """Judge a window of the prediction log against the reference of the version that answered it.

    Args:
        context: The opened workspace.
        window: Predictions judged, the newest; `monitoring.drift_window` if left out. Not with
            `since`.
        since: The window begins here.
        until: The window ends before this; now if left out.
        version: Whose answers; that of the newest in the window if left out.
        examples: Texts shown, where they are logged.
    Returns:
        What `contlearn drift --json` prints.
    Raises:
        TooFewPredictions: When there are too few to judge.
    """
    from contlearn.monitoring.drift_check import MIN_RECORDS
    from contlearn.monitoring.sample import sample_of

    config = context.config.monitoring
    end = None if until is None else until.isoformat(timespec="milliseconds")
    lines = _lines(context, version, end)
    chosen = version if version is not None else (lines[-1].get("version") if lines else None)
    past = [line for line in lines if end is None or str(line.get("time", "")) < end]
    if since is not None:
        begin = since.isoformat(timespec="milliseconds")
        judged = [line for line in past if str(line.get("time", "")) >= begin]
    else:
        # The newest half at most, so that a version has a reference from its 200th answer on.
        size = window or max(config.drift_window, MIN_RECORDS)
        judged = past[-min(size, max(len(past) // 2, MIN_RECORDS)) :]
    if len(judged) < MIN_RECORDS or len(lines) < 2 * MIN_RECORDS:
        asked = "in that window" if since is not None or until is not None else "so far"
        raise TooFewPredictions(
            f"There are {len(judged)} predictions {asked} and {len(lines) - len(judged)} to "
            f"compare them with; {MIN_RECORDS} of each are needed.",
            where=str(context.workspace.predictions),
            hint="Wait until the server has answered more (with monitoring.log_predictions on), "
            "or choose a longer window.",
        )
    sample = sample_of(judged)
    check, reference_until = _check(context, lines, judged, chosen)
    report = check.judge(sample)
    _refuse_failed(context, check)
    value: dict[str, Any] = {
        "format_version": LOOK_FORMAT,
        "model": context.config.model.name,
        "version": chosen,
        "window": _span(judged),
        "reference": {"records": len(check.reference), "to": reference_until},
        **report.to_json(),
        "moved": _moved(check, sample),
        "left_out": _left_out(context, chosen) | check.failed,
        "examples": [],
    }
    if examples and report.detected and sample.has("texts"):
        from contlearn.monitoring.explanation import typical_examples

        value["examples"] = typical_examples(check.reference, sample, most=examples)
    value["accuracy"] = look_at_accuracy(context, lines, judged, chosen, report)
    return value


def _lines(context: Context, version: int | None, end: str | None) -> list[dict[str, Any]]:
    """Read the answers of one version, oldest first; of the newest before `end` if not named."""
    chosen: Any = version
    lines: list[dict[str, Any]] = []
    for line in read_predictions(context.workspace.predictions):
        if chosen is None and (end is None or str(line.get("time", "")) < end):
            chosen = line.get("version")
            lines = [item for item in lines if item.get("version") == chosen]
        if chosen is None or line.get("version") == chosen:
            lines.append(line)
    if chosen is None:
        return []
    lines.sort(key=lambda line: str(line.get("time", "")))
    return lines


def newest_version(context: Context) -> int | None:
    """Give the version of the newest logged prediction."""
    for line in read_predictions(context.workspace.predictions, newest=1):
        value = line.get("version")
        return value if isinstance(value, int) else None
    return None


def _check(
    context: Context,
    lines: Sequence[Mapping[str, Any]],
    judged: Sequence[Mapping[str, Any]],
    version: Any,
) -> tuple[DriftCheck, str]:
    """Make the check with the version's frozen reference, or freeze it now if there is enough."""
    from contlearn.monitoring.drift_check import MIN_RECORDS, DriftCheck
    from contlearn.monitoring.reference import (
        Reference,
        load_reference,
        reference_path,
    )
    from contlearn.monitoring.sample import sample_of

    config = context.config.monitoring
    apart = _left_out(context, version)
    detectors = tuple(kind for kind in _detectors(context) if kind.name not in apart)
    stored = None
    if isinstance(version, int):
        path = reference_path(context.workspace.state, version)
        stored = load_reference(path, lines)
    begins = str(judged[0].get("time", ""))
    if stored is not None and stored.until < begins:
        known = set(stored.nulls)
        check = DriftCheck(
            stored.sample, level=config.drift_level, detectors=detectors, nulls=stored.nulls
        )
        check.judge(sample_of(judged))  # fills the nulls of a new window size
        if set(stored.nulls) != known:
            _save(path, stored)
        return check, stored.until
    before = [line for line in lines if str(line.get("time", "")) < begins]
    first = before[: config.drift_reference]
    if len(first) < MIN_RECORDS:
        # A window that lies within the reference: the rest of the reference is what there is.
        inside = {id(line) for line in judged}
        first = [line for line in lines if id(line) not in inside][: config.drift_reference]
    until = str(first[-1].get("time", "")) if first else ""
    check = DriftCheck(sample_of(first), level=config.drift_level, detectors=detectors)
    if stored is None and len(before) >= config.drift_reference and isinstance(version, int):
        check.judge(sample_of(judged))
        _save(path, Reference(check.reference, dict(check.nulls), until))
    return check, until


def _save(path: Any, reference: Any) -> None:
    import contextlib

    from contlearn.monitoring.reference import save_reference

    # A look is worth more than its frozen reference: a full disk costs only time at the next one.
    with contextlib.suppress(StorageError):
        save_reference(path, reference)


def _left_out(context: Context, version: Any) -> dict[str, str]:
    """Say which detectors have nothing to look at in the answers of a version, and why."""
    from contlearn.evaluation.runtime import read_runtime
    from contlearn.inference.opening import load_tokenizer
    from contlearn.monitoring.input_detectors import UnknownPieces
    from contlearn.tasks.vocabulary import unknown_piece

    if not isinstance(version, int) or version not in context.registry.numbers():
        return {}
    folder = context.registry.get(version).path
    noted = read_runtime(folder).get("tokenizer")
    try:
        piece = noted["unknown_piece"] if noted else unknown_piece(load_tokenizer(folder / "onnx"))
    except ServingError:  # a version that other tools have made may have none
        return {}
    if piece is None:
        return {UnknownPieces.name: "the tokenizer of this version cannot have unknown pieces"}
    if not noted and piece != "[UNK]":
        # Servers of that time logged 0 whatever came: beside today's numbers it would look moved.
        return {
            UnknownPieces.name: f"this version was made before {piece!r} was counted as unknown; "
            "the next one will be judged"
        }
    return {}


def _refuse_failed(context: Context, check: DriftCheck) -> None:
    """Refuse to judge without a detector that the configuration names."""
    for name in context.config.monitoring.detectors:
        if name in check.failed:
            raise EvaluationError(
                f"The detector {name!r} cannot judge: {check.failed[name]}.",
                where="monitoring.detectors in contlearn.toml",
                hint="Repair it, or take it out of the list.",
            )


def _detectors(context: Context) -> tuple[Any, ...]:
    """Give the classes that the configuration names; all that are registered when it names none."""
    names = context.config.monitoring.detectors
    table = context.manager.table("detector")
    if not names:
        return tuple(item.implementation for item in table.values())
    return tuple(
        context.manager.get("detector", name, where="monitoring.detectors") for name in names
    )


def _span(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "records": len(lines),
        "from": lines[0].get("time") if lines else None,
        "to": lines[-1].get("time") if lines else None,
    }


def _moved(check: DriftCheck, window: Any) -> dict[str, Any]:
    from contlearn.monitoring import explanation

    reference = check.reference
    moved: dict[str, Any] = {
        "labels": explanation.moved_labels(reference, window),
        "numbers": explanation.moved_numbers(reference, window),
        "clusters": explanation.moved_clusters(reference, window),
        "words": {"more": [], "less": []},
    }
    if reference.has("texts") and window.has("texts"):
        moved["words"] = explanation.moved_words(reference.texts, window.texts)
    return moved


def look_and_record(
    context: Context, *, window: int | None = None, examples: int = 5
) -> dict[str, Any]:
    """Judge the newest predictions as `look` does, and write down what was seen.

    Raises:
        TooFewPredictions: When there are too few to judge; that is written down too.
        StorageError: When the disk refuses.
    """
    try:
        value = look(context, window=window, examples=examples)
    except TooFewPredictions:
        record_look(context, None)
        raise
    record_look(context, value)
    return value


def record_look(context: Context, value: Mapping[str, Any] | None) -> Signals:
    """Write a look down for the daemon and the metrics; None when there was too little to judge.

    A look that saw next to nothing new keeps its number.

    Raises:
        StorageError: When the disk refuses.
    """
    state = context.workspace.state
    before = read_signals(state)
    now = context.clock.now().isoformat(timespec="seconds")
    if value is None:
        signals = Signals(
            look=before.look if before else 0, written_at=now, version=newest_version(context)
        )
        write_signals(state, signals)
        return signals
    window, accuracy = value["window"], value["accuracy"]
    same = (
        before is not None
        and before.version == value["version"]
        and before.measured.records >= (accuracy["measured"] or {}).get("records", 0)
        and _new_share(before.window_to, window) < _NEW_SHARE
    )
    signals = Signals(
        look=(before.look if before else 0) + (not same),
        written_at=now,
        version=value["version"],
        window_records=window["records"],
        window_from=window["from"],
        window_to=window["to"],
        drift=_drift_signal(value, before, same),
        estimated=_accuracy_signal(accuracy["estimated"], accuracy["reference"]),
        measured=_accuracy_signal(
            accuracy["measured"],
            accuracy["reference"],
            tuple(s["detector"] for s in accuracy["streams"] if s["detected"]),
        ),
        calibration_error=accuracy["calibration_error"],
        readings=tuple(value["detectors"]),
    )
    write_signals(state, signals)
    append_look(state, signals)
    return signals


def _new_share(seen_to: str | None, window: Mapping[str, Any]) -> float:
    """Say how much of a window, in time, came after what was seen before."""
    if seen_to is None:
        return 1.0
    begin, end, seen = (
        datetime.fromisoformat(str(m)).timestamp() for m in (window["from"], window["to"], seen_to)
    )
    return (end - seen) / (end - begin) if end > begin else float(end > seen)


def _drift_signal(value: Mapping[str, Any], before: Signals | None, same: bool) -> DriftSignal:
    if not value["detected"]:
        return DriftSignal()
    earlier = before.drift if before and before.version == value["version"] else DriftSignal()
    ranked = sorted(value["detectors"], key=lambda d: d["p_value"])  # the surest first
    alarming = [d["detector"] for d in ranked if d["detected"]]
    return DriftSignal(
        detected=True,
        severity=value["severity"],
        consecutive=max(1, earlier.consecutive + (0 if same else 1)),
        since=earlier.since or value["window"]["from"],
        detectors=tuple(alarming),
        explanation=tuple(value["explanation"][:_EXPLAINED]),
    )


def _accuracy_signal(
    value: Mapping[str, Any] | None, reference: float | None, detectors: tuple[str, ...] = ()
) -> AccuracySignal:
    if value is None:
        return AccuracySignal(reference=reference)
    return AccuracySignal(
        value=value["value"],
        low=value["low"],
        high=value["high"],
        records=value["records"],
        reference=reference,
        dropped=value["dropped"],
        detectors=detectors,
    )
