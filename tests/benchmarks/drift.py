"""False alarms, power and delay of the drift detectors on real texts.

    python -m tests.benchmarks.drift [--windows 2000] [--rounds 100] [--only PART]

CONTLEARN_DATA names the folder with the data; drift_cases.py says how models and windows are made.
Without drift: 40 references of 1,000 rows, and windows of rows that are not in them, from five
sources in turn. With drift: 100 windows of each kind. Delay: a look at the newest 300 answers every
50 answers, counted from the first one that is different. A change of the labels' shares alone is
also looked for in longer windows.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np

from contlearn.monitoring.drift_check import DriftCheck, DriftReport
from contlearn.monitoring.streaming import STREAMS, watch_errors
from tests.benchmarks.common import append_row
from tests.benchmarks.drift_cases import (
    REFERENCE,
    WINDOW,
    Answered,
    Case,
    cases,
    crises,
    references,
    sources,
)

REFERENCES = 40
STEP = 50
# Window and reference of the shift of many labels, which 300 answers show least; the first is what
# the configuration has unless told otherwise.
LONGER = ((500, 2_000), (1_000, 2_000))


def judged(report: DriftReport, counts: Counter[str], level: float = 0.01) -> None:
    counts["windows"] += 1
    counts["all together"] += report.detected
    counts["all together, by Holm instead"] += min(report.adjusted) <= level
    for finding in report.findings:
        counts[finding.detector] += finding.p_value <= level


def false_alarms(windows: int) -> None:
    generator = np.random.default_rng(5)
    counts: Counter[str] = Counter()
    seconds = []
    for number, (_, _, reference, rest) in enumerate(references(REFERENCES)):
        check = DriftCheck(reference.sample, seed=number)
        for _ in range(windows // REFERENCES):
            window = rest.rows(generator.choice(len(rest), WINDOW, replace=False))
            begun = time.perf_counter()
            judged(check.judge(window.sample), counts)
            seconds.append(time.perf_counter() - begun)
    done = counts.pop("windows")
    for name, number in counts.items():
        append_row(
            "drift",
            {
                "measure": f"false alarms, {name}",
                "value": round(100 * number / done, 2),
                "unit": "% of windows",
                "required": "at most 1.4 %",
                "beside": f"{done} windows of {WINDOW} rows without drift, nominal 1 %",
            },
        )
    append_row(
        "drift",
        {
            "measure": "one look at a window",
            "value": round(1e3 * float(np.median(seconds)), 1),
            "unit": "ms",
            "beside": f"median; reference of {REFERENCE}, window of {WINDOW}, all detectors",
        },
    )


def power(
    case: Case,
    rounds: int,
    *,
    window_rows: int = WINDOW,
    reference: int = REFERENCE,
    tail: str = "",
) -> None:
    generator = np.random.default_rng(7)
    _, pool = sources()[case.source]
    counts: Counter[str] = Counter()
    for number in range(5):
        order = generator.permutation(len(pool))
        check = DriftCheck(pool.rows(order[:reference]).sample, seed=number)
        rest = pool.rows(order[reference:])
        for _ in range(rounds // 5):
            judged(check.judge(case.window(rest, generator, window_rows).sample), counts)
    done = counts.pop("windows")
    together, by_holm = counts.pop("all together"), counts.pop("all together, by Holm instead")
    best = ", ".join(f"{name} {number}" for name, number in counts.most_common(6) if number)
    append_row(
        "drift",
        {
            "measure": f"found: {case.name}{tail}",
            "value": round(100 * together / done),
            "unit": "% of windows",
            "beside": f"{done} windows of {window_rows} rows, reference of {reference}; with Holm "
            f"instead {by_holm}; each alone at 1 %: {best}",
        },
    )


def delay(case: Case, rounds: int = 20) -> None:
    """Look at the newest 300 answers every 50, from the change on."""
    generator = np.random.default_rng(11)
    _, pool = sources()[case.source]
    delays: list[int | None] = []
    for number in range(rounds):
        order = generator.permutation(len(pool))
        check = DriftCheck(pool.rows(order[:REFERENCE]).sample, seed=number)
        rest = pool.rows(order[REFERENCE:])
        calm = rest.rows(generator.choice(len(rest), WINDOW, replace=False))
        after = case.window(rest, generator, 600)
        found = None
        for at in range(STEP, 601, STEP):
            both = calm.rows(np.arange(min(at, WINDOW), WINDOW))
            new = after.rows(np.arange(max(0, at - WINDOW), at))
            window = _joined(both, new)
            if check.judge(window.sample).detected:
                found = at
                break
        delays.append(found)
    seen = sorted(d for d in delays if d is not None)
    append_row(
        "drift",
        {
            "measure": f"delay: {case.name}",
            "value": seen[len(seen) // 2] if 2 * len(seen) >= rounds else None,
            "unit": "answers",
            "beside": f"median of {rounds}; found within 600 answers: {len(seen)}",
        },
    )


def _joined(first: Answered, second: Answered) -> Answered:
    from tests.benchmarks.drift_cases import together

    return together(first, second) if len(first) else second


def stream_in_time() -> None:
    """Walk through crises in time with the model of the first ones."""
    _, rest = crises()
    check = DriftCheck(rest.rows(np.arange(REFERENCE)).sample)
    verdicts = [
        check.judge(rest.rows(np.arange(start, start + WINDOW)).sample).detected
        for start in range(REFERENCE, len(rest) - WINDOW, WINDOW)
    ]
    first = verdicts.index(True) + 1 if any(verdicts) else None
    append_row(
        "drift",
        {
            "measure": "found: crisis messages in time",
            "value": round(100 * sum(verdicts) / len(verdicts)),
            "unit": "% of windows",
            "beside": f"{len(verdicts)} windows of {WINDOW} rows after the first 3,000 messages; "
            f"the first alarm came with window {first}",
        },
    )
    errors = [not right for right in rest.right]
    for name in STREAMS:
        alarm = next(
            (
                at
                for at in range(REFERENCE, len(errors), STEP)
                if watch_errors(errors[:at], recent=STEP, names=(name,))[0].detected
            ),
            None,
        )
        append_row(
            "drift",
            {
                "measure": f"found on labelled errors: crisis messages in time, {name}",
                "value": None if alarm is None else alarm - REFERENCE,
                "unit": "labels",
                "beside": "labels after the first 1,000 until the first alarm; error rate of the "
                f"first 1,000 {np.mean(errors[:REFERENCE]):.2f}, of the rest "
                f"{np.mean(errors[REFERENCE:]):.2f}",
            },
        )


def labelled(runs: int, rounds: int) -> None:
    """Streaming detectors: 1,000 errors of the reference, then 300 of a window."""
    generator = np.random.default_rng(13)
    alarms: Counter[str] = Counter()
    done = 0
    for _, _, reference, rest in references(REFERENCES):
        for _ in range(runs // REFERENCES):
            window = rest.right[generator.choice(len(rest), WINDOW, replace=False)]
            before = reference.right[generator.permutation(len(reference))]
            done += 1
            for found in watch_errors([*~before, *~window], recent=WINDOW):
                alarms[found.detector] += found.detected
    for name in STREAMS:
        append_row(
            "drift",
            {
                "measure": f"false alarms on labelled errors, {name}",
                "value": round(100 * alarms[name] / done, 2),
                "unit": "% of windows",
                "required": "at most 1.4 %",
                "beside": f"{done} runs: 1,000 errors of the reference, then a window of {WINDOW}",
            },
        )
    for case in cases():
        if not case.known_labels or case.favoured:
            continue
        _, pool = sources()[case.source]
        found_by: Counter[str] = Counter()
        rates = []
        delays: dict[str, list[int]] = {name: [] for name in STREAMS}
        for _ in range(rounds):
            order = generator.permutation(len(pool))
            before = ~pool.rows(order[:REFERENCE]).right
            window = ~case.window(pool.rows(order[REFERENCE:]), generator).right
            rates.append((before.mean(), window.mean()))
            for found in watch_errors([*before, *window], recent=WINDOW):
                found_by[found.detector] += found.detected
            for name in STREAMS:
                for at in range(STEP, WINDOW + 1, STEP):
                    seen = watch_errors([*before, *window[:at]], recent=at, names=(name,))
                    if seen[0].detected:
                        delays[name].append(at)
                        break
        before_rate, now_rate = np.mean(rates, axis=0)
        append_row(
            "drift",
            {
                "measure": f"found on labelled errors: {case.name}",
                "value": round(100 * max(found_by.values(), default=0) / rounds),
                "unit": "% of windows",
                "beside": f"errors {before_rate:.1%} → {now_rate:.1%}; {rounds} windows of "
                f"{WINDOW} labels; "
                + ", ".join(
                    f"{name} {round(100 * found_by[name] / rounds)} (median delay "
                    f"{int(np.median(delays[name])) if delays[name] else '–'})"
                    for name in STREAMS
                ),
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument(
        "--only", choices=("false-alarms", "power", "delay", "labelled", "stream"), default=None
    )
    options = parser.parse_args()
    wanted = options.only
    if wanted in (None, "false-alarms"):
        false_alarms(options.windows)
    if wanted in (None, "power"):
        for case in cases():
            power(case, options.rounds)
            for rows, reference in LONGER if case.favoured else ():
                tail = f", windows of {rows}"
                power(case, options.rounds, window_rows=rows, reference=reference, tail=tail)
    if wanted in (None, "delay"):
        for case in cases():
            delay(case, max(5, options.rounds // 10))
    if wanted in (None, "stream"):
        stream_in_time()
    if wanted in (None, "labelled"):
        labelled(options.windows, 20)


if __name__ == "__main__":
    main()
