from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from contlearn.evaluation.model_card import render_model_card, write_model_card
from contlearn.evaluation.report_page import render_report, write_report_page
from contlearn.workspace import write_json_atomic

FACTS = {
    "model": {
        "task": "text-classification",
        "labels": ["no", "<yes>"],
        "max_tokens": 64,
        "temperature": 1.25,
        "precision": "int8",
        "processor": ["avx2", "avx512_vnni"],
        "base": "bert-tiny",
        "pooling": "mean",
        "graph": "sequence-classification",
    },
    "lineage": {"cycle": "20300101-1", "experiences": ["a", "b"], "records": 90, "strategy": "replay", "seed": 17},
    "training": {"steps": 12, "seconds": 3.21, "trained_share": 1.0},
    "export": {"label_agreement": 0.995, "max_abs_difference": 0.01, "size_bytes": 22_900_000},
}  # fmt: skip
REPORT = {
    "metrics": {
        "accuracy": 0.8, "macro_f1": 0.79, "micro_f1": 0.8,
        "average_accuracy": 0.81, "forgetting": 0.02, "backward_transfer": None,
    },
    "accuracy_matrix": [[0.9], [None, 0.72]],
    "per_label": [{"label": "<yes>", "precision": 0.8, "recall": 0.7, "f1": 0.75, "support": 40}],
    "confusion": {"labels": ["<yes>", "no"], "matrix": [[28, 12], [3, 57]]},
    "sets": [{"index": 0, "rows": 100, "is_new": True, "metrics": {"accuracy": 0.8}, "champion": None}],
    "reliability": {
        "bins": [{"rows": 0, "confidence": None, "right": None}] * 9 + [{"rows": 100, "confidence": 0.95, "right": 0.8}],
        "expected_calibration_error": 0.15,
    },
}  # fmt: skip
DECISION = {
    "champion": 3,
    "promoted": False,
    "outcomes": [
        {"rule": "gain", "passed": False, "measured": -0.1, "required": -0.03, "message": "worse | than <before>"},
        {"rule": "floor", "passed": None, "measured": None, "required": None, "message": "Not applicable."},
    ],
    "warnings": ["Only 100 rows."],
}  # fmt: skip


class Balance(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    VOID = frozenset({"meta", "br", "line", "circle", "rect", "polyline"})

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        assert self.open.pop() == tag


def _page(**changes):
    return render_report(
        name="my <model>", facts=FACTS, report={**REPORT, **changes}, decision=DECISION
    )


def test_report_page_is_one_well_formed_file_without_script_or_network():
    page = _page()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not parser.seen & {"script", "link", "img", "iframe"}
    assert re.findall(r"https?://|url\(|@import", page) == []
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_report_page_escapes_names_and_messages():
    page = _page()
    assert "my &lt;model&gt;" in page
    assert "&lt;yes&gt;" in page
    assert "<yes>" not in page
    assert "<before>" not in page


def test_report_page_shows_decision_matrix_and_what_is_missing():
    page = _page()
    for text in (
        "The gate refused it",
        "compared with version 3",
        "Only 100 rows.",
        "experience 2",
        "72.0 %",
        "22.9 MB",
        "avx512_vnni",
    ):
        assert text in page
    assert "<td></td>" in page  # not measured
    assert "<b>–</b>backward transfer" in page
    assert "average accuracy after each" not in page
    assert 'aria-label="average accuracy and forgetting after each experience"' in page


def test_report_page_of_a_first_version_of_entities_leaves_parts_out():
    page = _page(accuracy_matrix=[[0.5]], confusion=None, reliability=None)
    assert "Over the experiences" not in page
    assert "Reliability" not in page
    assert "Confusions" not in page


def test_report_page_shows_pairs_instead_of_a_matrix_of_many_labels():
    names = [f"label {i}" for i in range(30)]
    matrix = [[5 if i == j else int(j == i + 1) for j in range(30)] for i in range(30)]
    page = _page(confusion={"labels": names, "matrix": matrix})
    assert page.count("<td>5</td>") == 0
    assert page.count('<td class="words">label ') == 20


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_model_card_names_measures_rules_and_limits(precision):
    facts = {**FACTS, "model": {**FACTS["model"], "precision": precision}}
    card = render_model_card(name="my: model", facts=facts, report=REPORT, decision=DECISION)
    head = card.split("---")[1]
    assert 'base_model: "bert-tiny"' in head
    assert '- name: "my: model"' in head
    assert "      value: 0.8000" in head
    assert "backward_transfer" not in card
    assert "| gain | refused | worse \\| than <before> |" in card
    assert "ORTModelForSequenceClassification" in card
    assert ("8-bit" in card) is (precision == "int8")


def test_papers_are_written_beside_their_reports(tmp_path):
    write_json_atomic(tmp_path / "report.json", REPORT)
    write_json_atomic(tmp_path / "decision.json", DECISION)
    assert write_report_page(tmp_path, name="m", facts=FACTS).name == "report.html"
    assert write_model_card(tmp_path, name="m", facts=FACTS).name == "MODEL_CARD.md"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "MODEL_CARD.md",
        "decision.json",
        "report.html",
        "report.json",
    ]
