"""What monitoring tells the daemon: one small file that is replaced whole at each look.

The contract. `state/monitoring/signals.json` is written by `contlearn drift --record` and by the
daemon's own regular look, which runs in a child (`contlearn.daemon.watching`). Whoever starts
updates reads it with `read_signals`: standard library only, no numpy, under a millisecond, None
before the first look or when the file is damaged. It is replaced by one rename, so that a reader
never sees half of it. A trigger looks at four things:

- `version`: a signal about another version than the champion is stale and must be ignored;
- `drift.detected`, with `drift.consecutive` (looks in a row that alarmed: one alarm in a hundred
  looks is chance, two in a row are not) and `drift.severity`;
- `estimated.dropped`: the interval of the accuracy estimated without labels lies wholly below what
  was measured on held-out rows when the version was made, less `monitoring.accuracy_margin`;
- `measured.dropped`: the same for the accuracy measured on labels that came back by /feedback, or
  a streaming detector (ADWIN, DDM, Page-Hinkley) that alarms on the errors.

`look` grows by one with every look of which a fifth of the window is new, or whose labels grew: a
trigger that has acted on a look keeps its number and does not act on the same look again.

`state/monitoring/looks.jsonl` keeps one short line a look, the newest 2,000, for reports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from contlearn.workspace import write_bytes_atomic, write_json_atomic

__all__ = [
    "SIGNALS_FILE",
    "AccuracySignal",
    "DriftSignal",
    "Signals",
    "append_look",
    "read_looks",
    "read_signals",
    "signals_path",
    "write_signals",
]

FORMAT_VERSION: Final = 1
SIGNALS_FILE: Final = "signals.json"
LOOKS_FILE: Final = "looks.jsonl"
MAX_LOOKS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSignal:
    """What the drift detectors say together. Moments are ISO 8601 in UTC."""

    detected: bool = False
    severity: str = "none"  # none, moderate, strong
    consecutive: int = 0
    since: str | None = None
    detectors: tuple[str, ...] = ()
    explanation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracySignal:
    """An accuracy in production with its 95 % interval, against that on held-out rows.

    `reference` is what was measured on held-out rows when the version was made.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    records: int = 0
    reference: float | None = None
    dropped: bool = False
    detectors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """One look. `readings` holds one entry for each detector, for the metrics."""

    look: int
    written_at: str
    version: int | None
    window_records: int = 0
    window_from: str | None = None
    window_to: str | None = None
    drift: DriftSignal = field(default_factory=DriftSignal)
    estimated: AccuracySignal = field(default_factory=AccuracySignal)
    measured: AccuracySignal = field(default_factory=AccuracySignal)
    calibration_error: float | None = None
    slices: Mapping[str, float] = field(default_factory=dict)
    readings: tuple[Mapping[str, Any], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {"format_version": FORMAT_VERSION, **asdict(self)}


def signals_path(state: Path) -> Path:
    """Give the file below the workspace's `state` folder."""
    return state / "monitoring" / SIGNALS_FILE


def write_signals(state: Path, signals: Signals) -> None:
    """Replace the file.

    Raises:
        StorageError: When the disk refuses.
    """
    path = signals_path(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json_atomic(path, signals.to_json())


def read_signals(state: Path) -> Signals | None:
    """Read the newest look; None when there is none, or another contlearn wrote it."""
    try:
        value = json.loads(signals_path(state).read_bytes())
        if value.pop("format_version") != FORMAT_VERSION:
            return None
        value["drift"] = DriftSignal(**_tuples(value["drift"]))
        for name in ("estimated", "measured"):
            value[name] = AccuracySignal(**_tuples(value[name]))
        value["readings"] = tuple(value["readings"])
        return Signals(**value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def append_look(state: Path, signals: Signals) -> None:
    """Add a look to the history; a look with the number of the last one takes its place.

    Raises:
        StorageError: When the disk refuses.
    """
    lines = [line for line in read_looks(state) if line.get("look") != signals.look]
    lines.append(
        {
            "look": signals.look,
            "at": signals.written_at,
            "version": signals.version,
            "window_to": signals.window_to,
            "records": signals.window_records,
            "detected": signals.drift.detected,
            "severity": signals.drift.severity,
            "detectors": list(signals.drift.detectors[:5]),
            "estimated": [signals.estimated.value, signals.estimated.low, signals.estimated.high],
            "measured": [signals.measured.value, signals.measured.low, signals.measured.high],
            "reference": signals.estimated.reference,
        }
    )
    data = "".join(json.dumps(line) + "\n" for line in lines[-MAX_LOOKS:])
    write_bytes_atomic(signals_path(state).with_name(LOOKS_FILE), data.encode())


def read_looks(state: Path) -> list[dict[str, Any]]:
    """Read the history of looks, oldest first; damaged lines are passed over."""
    try:
        text = signals_path(state).with_name(LOOKS_FILE).read_bytes()
    except OSError:
        return []
    looks = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            looks.append(value)
    return looks


def _tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
