"""What `contlearn drift` prints, whole: of answers that are as before, and of others."""

from __future__ import annotations

from tests.cli.folding import folded
from tests.logged import log_answers, logged_workspace

CALM = """\
tickets, version 1: no drift
  300 predictions from 2030-03-17 12:08 to 2030-03-17 12:13 UTC against 500 of its first ones; \
chance does this in #% of windows (alarm at #%).
  Accuracy estimated: #% (#%: #% to #%, 300 rows); on held-out rows #%.
"""
DETECTORS = (
    "chi-square", "classifier", "conditional-confidence", "jensen-shannon", "ks-confidence",
    "ks-energy", "ks-fragmentation", "ks-length", "ks-unknown", "label-lift", "languages", "mmd",
    "neighbour-distance", "psi",
)  # fmt: skip


def test_drift_says_that_nothing_moved(run, tmp_path):
    with logged_workspace(tmp_path / "ws") as context:
        log_answers(context, 800, seed=1)
    ran = run("--workspace", tmp_path / "ws", "drift", "--window", "300")
    head, _, rows = folded(ran.out).partition("detector  of  measured  chance  corrected\n")
    assert head == CALM
    assert tuple(row.split("  ")[0] for row in rows.splitlines()) == DETECTORS
    assert "alarm" not in rows
    assert (ran.code, ran.err) == (0, "")


def test_drift_says_what_moved(run, tmp_path):
    with logged_workspace(tmp_path / "ws") as context:
        log_answers(context, 700, seed=1)
        log_answers(context, 300, seed=2, minutes=60, weights=(0.7, 0.1, 0.1, 0.1), shift=2.0)
    ran = run("--workspace", tmp_path / "ws", "drift", "--window", "300")
    head, _, rows = folded(ran.out).partition("detector  of  measured  chance  corrected\n")
    assert head.splitlines() == [
        "tickets, version 1: strong drift",
        (
            "  300 predictions from 2030-03-17 13:00 to 2030-03-17 13:04 UTC against 500 of its "
            "first ones; chance does this in #% of windows (alarm at #%)."
        ),
        (
            "  The predicted labels moved: billing #% → #%, account #% → #%, returns #% → #%, "
            "shipping #% → #%."
        ),
        (
            "  The texts themselves differ: a classifier tells new from old ones in #% of pairs "
            "(#% is chance)."
        ),
        (
            "  The number of pieces for each character (rare words and typos raise it) moved: median "
            "# → #."
        ),
        "  The length of the texts in characters moved: median 33 → 54.",
        "  The meanings of the texts, as the model sees them, are distributed in another way.",
        "  #% of the texts are farther from all known ones than #% were.",
        "  Accuracy estimated: #% (#%: #% to #%, 300 rows); on held-out rows #%.",
    ]
    lines = rows.splitlines()
    assert tuple(line.split("  ")[0] for line in lines[:14]) == DETECTORS
    assert [line.split("  ")[0] for line in lines[:14] if line.endswith("alarm")] == [
        "chi-square", "classifier", "jensen-shannon", "ks-fragmentation", "ks-length",
        "label-lift", "mmd", "neighbour-distance", "psi",
    ]  # fmt: skip
    assert lines[14] == "cluster of  before  now"


def test_drift_takes_a_number_or_a_moment(run, tmp_path):
    with logged_workspace(tmp_path / "ws"):
        pass
    ran = run("--workspace", tmp_path / "ws", "drift", "--window", "300", "--since", "2h")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "Error: --window counts the newest predictions, --since names a moment: only one can be.\n"
        "  where: drift\n"
        "  to do: Leave one of them out.\n"
    )
