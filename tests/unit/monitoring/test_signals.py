import subprocess
import sys

from contlearn.monitoring.signals import (
    AccuracySignal,
    DriftSignal,
    Signals,
    read_signals,
    signals_path,
    write_signals,
)


def signals(**more):
    return Signals(look=3, written_at="2026-01-01T00:00:00+00:00", version=2, **more)


def test_signals_come_back_as_they_were_written(tmp_path):
    written = signals(
        window_records=500,
        drift=DriftSignal(detected=True, consecutive=2, detectors=("psi",), explanation=("a",)),
        estimated=AccuracySignal(value=0.8, low=0.7, high=0.85, records=500, reference=0.9),
        measured=AccuracySignal(dropped=True, detectors=("adwin",)),
        readings=({"detector": "psi", "score": 0.3},),
    )
    write_signals(tmp_path, written)
    assert read_signals(tmp_path) == written


def test_signals_are_none_when_missing_damaged_or_of_another_format(tmp_path):
    assert read_signals(tmp_path) is None
    write_signals(tmp_path, signals())
    path = signals_path(tmp_path)
    whole = path.read_text()
    for text in (whole[:40], "[]", whole.replace('"format_version": 1', '"format_version": 9')):
        path.write_text(text)
        assert read_signals(tmp_path) is None


def test_reading_signals_loads_no_numpy():
    code = "import sys, contlearn.monitoring.signals; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
