from __future__ import annotations

import pytest

from contlearn.evaluation.text_slices import largest_difference, slice_matcher, slice_report
from contlearn.pages.report_sections import text_slices
from contlearn.papers.report import EvaluationReport


def shown(*rows):
    return text_slices(EvaluationReport.from_json({"text_slices": rows}))


def test_matchers_look_at_text_language_and_source():
    assert slice_matcher("language:german")("Wo ist das Paket und die Rechnung?", "")
    assert slice_matcher("source:kiosk-.*")("x", "Kiosk-7.jsonl")
    assert not slice_matcher("source:kiosk-.*")("kiosk-7", "web.jsonl")
    assert slice_matcher(r"\b(she|her)\b")("Did SHE pay?", "")
    assert not slice_matcher(r"\b(she|her)\b")("the sheep", "")
    assert slice_matcher(r"(?:she|her): ")("SHE: yes", "")
    with pytest.raises(ValueError, match="missing"):
        slice_matcher("(")


def test_a_rate_that_differs_is_named_with_the_true_rates():
    texts = ["she asks"] * 100 + ["he asks"] * 300
    targets = (["yes"] * 50 + ["no"] * 50) + (["yes"] * 150 + ["no"] * 150)
    answers = (["yes"] * 20 + ["no"] * 80) + targets[100:]
    women, few = slice_report(
        {"women": r"\bshe\b", "few": "language:klingon"}, texts, ["f"] * 400, answers, targets
    )
    assert (women["rows"], women["rows_outside"]) == (100, 300)
    assert women["accuracy"] == pytest.approx(0.7)
    assert women["accuracy_outside"] == 1.0
    label = {item["label"]: item for item in women["labels"]}["yes"]
    assert (label["rate"], label["rate_outside"], label["true_rate"]) == (0.2, 0.5, 0.5)
    assert label["p_value"] < 1e-5
    assert largest_difference(women) == pytest.approx(0.3)
    assert few["labels"] == []
    assert largest_difference(few) is None
    page = shown(women, few)
    assert "yes 20% (outside 50%, true 50% and 50%)" in page
    assert "too few rows" in page


def test_a_pattern_without_an_end_is_given_up_and_said_on_the_page():
    texts = ["a" * 60 + "!"] * 30 + ["b"] * 30
    slow, other = slice_report(
        {"slow": r"^(a|aa)+$", "other": "^b"}, texts, ["f"] * 60, ["yes"] * 60, ["yes"] * 60
    )
    assert (slow["rows"], slow["labels"], largest_difference(slow)) == (0, [], None)
    assert slow["problem"].startswith("not measured: its pattern takes too long")
    assert other["rows"] == 30
    assert "not measured" in shown(slow)


def test_equal_rates_are_no_difference():
    texts = ["she asks", "he asks"] * 100
    answers = ["yes"] * 200
    (row,) = slice_report({"women": r"\bshe\b"}, texts, ["f"] * 200, answers, answers)
    assert largest_difference(row) == 0.0
    assert "none beyond chance" in shown(row)
    assert shown() == ""
