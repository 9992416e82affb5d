"""How often the gate is wrong: false promotions and power, by simulated cycles.

    python -m tests.benchmarks.gate [--cycles 2000] [--output gate.json]

Each cycle has a champion and a challenger whose true accuracies are known. Answers are drawn row
by row: both right, only one right, or both wrong. The default rules decide as in an update.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from contlearn.evaluation.gate import decide
from contlearn.plugins.manager import PluginManager
from contlearn.types import LabelSpace
from tests.unit.evaluation.made import evidence, pair

NAMES = tuple(f"label {i:02}" for i in range(10))
LABELS = LabelSpace(NAMES)
# The 95 % bound of 2 000 draws at a nominal 5 %: 0.05 + 1.645 * sqrt(0.05 * 0.95 / 2000).
LIMIT = 0.058


def draw_pair(generator, rows, *, right, change, disagreement, index=0, is_new=False):
    """Draw one held-out set.

    Args:
        right: The champion's true accuracy.
        change: The challenger's true accuracy less the champion's.
        disagreement: The share of rows that only one of the two answers right.
    """
    lost = (disagreement - change) / 2
    won = disagreement - lost
    kind = generator.choice(4, size=rows, p=[right - lost, lost, won, 1 - right - won])
    expected = generator.integers(len(NAMES), size=rows)
    wrong = (expected + generator.integers(1, len(NAMES), size=rows)) % len(NAMES)
    targets = [NAMES[i] for i in expected]
    champion = [NAMES[i] for i in np.where(kind <= 1, expected, wrong)]
    challenger = [NAMES[i] for i in np.where((kind == 0) | (kind == 2), expected, wrong)]
    return pair(targets, challenger, champion, index=index, is_new=is_new, labels=LABELS)


def share_promoted(
    manager,
    cycles,
    rows,
    change,
    *,
    seed,
    metric="accuracy",
    disagreement=0.1,
    margin=0.03,
    rules=None,
):
    """Run cycles of a challenger with one true change on old data; half as good again on new."""
    generator = np.random.default_rng(seed)
    promoted = 0
    for number in range(cycles):
        sizes = [rows // 4] * 3 + [rows - 3 * (rows // 4)]
        sets = [
            draw_pair(
                generator, size, right=0.85, change=change, disagreement=disagreement, index=k
            )
            for k, size in enumerate(sizes)
        ]
        sets.append(
            draw_pair(generator, 50, right=0.5, change=0.3, disagreement=0.35, index=4, is_new=True)
        )
        more = {} if rules is None else {"rules": rules}
        case = evidence(*sets, labels=LABELS, metric=metric, margin=margin, **more)
        promoted += decide(case, manager, champion=number, challenger=number + 1).promoted
    return promoted / cycles


def share_shuffled(manager, cycles, rows, *, seed, labels=3, known=True):
    """Run cycles whose new labels are shuffled; the old rows are left as they were."""
    generator = np.random.default_rng(seed)
    names = NAMES[:labels]
    promoted = 0
    for _ in range(cycles):
        old = draw_pair(generator, 400, right=0.85, change=0.0, disagreement=0.05)
        targets = generator.choice(names, size=rows).tolist()
        challenger = generator.choice(names, size=rows).tolist()
        champion = generator.choice(names, size=rows).tolist() if known else [NAMES[-1]] * rows
        new = pair(targets, challenger, champion, index=1, is_new=True, labels=LABELS)
        promoted += decide(evidence(old, new, labels=LABELS), manager).promoted
    return promoted / cycles


def share_honest(manager, cycles, rows, *, seed, right, champion_right, labels=3):
    """Run cycles whose new labels are honest."""
    generator = np.random.default_rng(seed)
    promoted = 0
    for _ in range(cycles):
        old = draw_pair(generator, 400, right=0.85, change=0.0, disagreement=0.05)
        targets = generator.choice(NAMES[:labels], size=rows).tolist()

        def answer(share, targets=targets):
            return [
                t
                if generator.random() < share
                else generator.choice([n for n in NAMES[:labels] if n != t])
                for t in targets
            ]

        new = pair(
            targets, answer(right), answer(champion_right), index=1, is_new=True, labels=LABELS
        )
        promoted += decide(evidence(old, new, labels=LABELS), manager).promoted
    return promoted / cycles


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cycles", type=int, default=2000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    manager = PluginManager(discover=False)
    started = time.monotonic()
    results: dict[str, object] = {"cycles": options.cycles}

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    say("False promotions: truly worse by the margin of 3 % on old rows, much better on new ones")
    false = {}
    for metric in ("accuracy", "macro_f1"):
        for rows, disagreement in ((300, 0.05), (300, 0.1), (1000, 0.1)):
            share = share_promoted(
                manager,
                options.cycles,
                rows,
                -0.03,
                seed=rows,
                metric=metric,
                disagreement=disagreement,
            )
            false[f"{metric}, {rows} rows, {disagreement:.0%} disagree"] = share
            verdict = "ok" if share <= LIMIT else "TOO MANY"
            say(
                f"  {metric:9} {rows:5} rows, {disagreement:4.0%} disagree: {share:6.2%}  {verdict}"
            )
    results["false_promotions"] = false
    fewer = max(100, options.cycles // 10)
    say("Power: share promoted, by true change on old rows (accuracy, 10 % disagree)")
    power = {}
    for margin in (0.02, 0.03, 0.05):
        for rows in (300, 600, 1200):
            shares = {
                change: share_promoted(manager, fewer, rows, change, seed=rows, margin=margin)
                for change in (-0.01, 0.0, 0.02)
            }
            power[f"margin {margin}, {rows} rows"] = shares
            row = "  ".join(f"{change:+.0%}: {share:4.0%}" for change, share in shares.items())
            say(f"  margin {margin:.0%}, {rows:5} rows   {row}")
    results["power"] = power
    say("New rows only: share promoted")
    new = {}
    for rows in (5, 12, 30, 60, 200):
        shares = {
            "shuffled labels, known": share_shuffled(manager, fewer, rows, seed=rows),
            "shuffled labels, new": share_shuffled(manager, fewer, rows, seed=rows, known=False),
            "honest, 80 % right, champion 50 %": share_honest(
                manager, fewer, rows, seed=rows, right=0.8, champion_right=0.5
            ),
            "honest, 90 % right, champion 90 %": share_honest(
                manager, fewer, rows, seed=rows, right=0.9, champion_right=0.9
            ),
        }
        new[rows] = shares
        say(
            f"  {rows:4} rows   "
            + "  ".join(f"{name}: {share:.0%}" for name, share in shares.items())
        )
    results["new_rows"] = new
    results["seconds"] = round(time.monotonic() - started, 1)
    say(f"{results['seconds']} s")
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0 if all(share <= LIMIT for share in false.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
