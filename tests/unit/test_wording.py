"""Measures and numbers as people read them."""

from __future__ import annotations

import pytest

from contlearn.cli.live import live_view
from contlearn.wording import first_line, metric_name, number
from tests.cli.test_status_watch import NOW, VALUE, shown
from tests.unit.evaluation.test_papers import DECISION, FACTS, REPORT, card_of, report_page

ENTITIES = {**REPORT, "primary_metric": "f1"}


@pytest.mark.parametrize(
    "page",
    [
        lambda report: report_page(name="x", facts=FACTS, report=report, decision=DECISION),
        lambda report: card_of(name="x", facts=FACTS, report=report, decision=DECISION),
    ],
    ids=["report", "model card"],
)
def test_papers_of_entities_speak_of_average_f1(page):
    assert "average F1" in page(ENTITIES)
    assert "average accuracy" not in page(ENTITIES)
    assert "average accuracy" in page(REPORT)


def test_live_view_of_entities_speaks_of_average_f1():
    value = {**VALUE, "task": "token-classification", "primary_metric": "f1"}
    assert "average F1 91.0 %" in shown(value)
    assert live_view(value, NOW)


@pytest.mark.parametrize(
    ("name", "primary", "said"),
    [
        ("average_accuracy", "accuracy", "average accuracy"),
        ("average_accuracy", "f1", "average F1"),
        ("average_accuracy", "macro_f1", "average macro F1"),
        ("backward_transfer", "f1", "backward transfer"),
        ("f1", "f1", "F1"),
    ],
)
def test_name_of_a_measure(name, primary, said):
    assert metric_name(name, primary) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.12345, "0.1235"),
        (0.00004, "0.00004"),
        (999.96, "1000"),
        (48_000_000, "48,000,000"),
        (-1234.5, "-1,234"),
    ],
)
def test_numbers_have_no_powers_of_ten(value, said):
    assert number(value) == said


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotImplementedError(), "NotImplementedError"),
        (ValueError("\n  first\nsecond"), "first"),
        (RuntimeError(" \n"), "RuntimeError"),
    ],
)
def test_an_error_without_a_word_is_told_by_its_type(error, line):
    assert first_line(error) == line
