"""The accuracy estimated without labels, against the measured one, over real changes.

    python -m tests.benchmarks.drift_accuracy [--rounds 60]

Windows of 300 answers, models and changes as in drift_cases.py. The estimate knows the held-out
rows that the model was calibrated on, which texts are flagged as unknown (at one in twenty of those
rows, as the server does), and whether the drift check alarms; never a label.
"""

from __future__ import annotations

import argparse

import numpy as np

from contlearn.monitoring.accuracy import estimate_accuracy
from contlearn.monitoring.drift_check import DriftCheck
from tests.benchmarks.common import append_row
from tests.benchmarks.drift_cases import (
    FLAG_RATE,
    REFERENCE,
    WINDOW,
    Answered,
    Model,
    cases,
    crises,
    sources,
)


class Tally:
    """Errors and coverage of the estimates of one change."""

    def __init__(self) -> None:
        self.errors: list[float] = []
        self.unaware: list[float] = []
        self.flagged: list[float] = []
        self.plain: list[float] = []
        self.covered = self.covered_plain = self.alarms = 0
        self.measured: list[float] = []
        self.widths: list[float] = []

    def add(self, model: Model, check: DriftCheck, window: Answered) -> None:
        measured = float(window.right.mean())
        confidence = window.sample.numbers["confidence"]
        alarm = check.judge(window.sample).detected
        flags = {"flagged": window.flagged, "flag_rate": FLAG_RATE}
        estimate = estimate_accuracy(confidence, model.calibration, detected=alarm, **flags)
        calm = estimate_accuracy(confidence, model.calibration, **flags)
        unaware = estimate_accuracy(confidence, model.calibration)
        self.errors.append(estimate.value - measured)
        self.unaware.append(unaware.value - measured)
        self.flagged.append(float(window.flagged.mean()))
        self.plain.append(float(confidence.mean()) - measured)
        self.covered += estimate.low <= measured <= estimate.high
        self.covered_plain += calm.low <= measured <= calm.high
        self.alarms += alarm
        self.measured.append(measured)
        self.widths.append(estimate.high - estimate.low)

    def row(self, name: str, held_out: float) -> None:
        rounds = len(self.errors)
        append_row(
            "drift",
            {
                "measure": f"accuracy without labels: {name}",
                "value": round(100 * float(np.mean(np.abs(self.errors))), 1),
                "unit": "points of error",
                "beside": f"interval holds the measured accuracy in "
                f"{100 * self.covered / rounds:.0f} % of {rounds} windows (not opened for drift: "
                f"{100 * self.covered_plain / rounds:.0f} %), width {np.mean(self.widths):.2f}; "
                f"held-out {held_out:.1%}, measured {np.mean(self.measured):.1%}, bias "
                f"{100 * np.mean(self.errors):+.1f}; drift alarm in "
                f"{100 * self.alarms / rounds:.0f} %; flagged as unknown "
                f"{100 * np.mean(self.flagged):.0f} %, without the flag off by "
                f"{100 * float(np.mean(np.abs(self.unaware))):.1f}; mean confidence alone is off by "
                f"{100 * float(np.mean(np.abs(self.plain))):.1f}",
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    generator = np.random.default_rng(19)
    calm = Tally()
    for number, (model, pool) in enumerate(sources().values()):
        order = generator.permutation(len(pool))
        check = DriftCheck(pool.rows(order[:REFERENCE]).sample, seed=number)
        rest = pool.rows(order[REFERENCE:])
        for _ in range(options.rounds):
            calm.add(model, check, rest.rows(generator.choice(len(rest), WINDOW, replace=False)))
    calm.row(
        "without drift, five sources", float(np.mean([m.accuracy for m, _ in sources().values()]))
    )
    for case in cases():
        if not case.known_labels:
            continue
        model, pool = sources()[case.source]
        tally = Tally()
        order = generator.permutation(len(pool))
        check = DriftCheck(pool.rows(order[:REFERENCE]).sample)
        rest = pool.rows(order[REFERENCE:])
        for _ in range(options.rounds):
            tally.add(model, check, case.window(rest, generator))
        tally.row(case.name, model.accuracy)
    model, rest = crises()
    tally = Tally()
    check = DriftCheck(rest.rows(np.arange(REFERENCE)).sample)
    for start in range(REFERENCE, len(rest) - WINDOW, WINDOW):
        tally.add(model, check, rest.rows(np.arange(start, start + WINDOW)))
    tally.row("crisis messages in time", model.accuracy)


if __name__ == "__main__":
    main()
