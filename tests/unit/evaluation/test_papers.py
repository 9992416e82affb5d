from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from contlearn.cards import FORGOTTEN, clear_cards
from contlearn.evaluation.model_card import render_model_card, write_model_card
from contlearn.pages.report import (
    VERSION_MARK,
    render_report,
    with_version,
    write_report_page,
)
from contlearn.papers.manifest import VersionFacts
from contlearn.papers.report import EvaluationReport
from contlearn.types import PromotionDecision
from contlearn.workspace import write_json_atomic
from tests.unit.evaluation.made import TAGGING, TASK

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
        "pipeline": "text-classification",
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


MORE = {
    "metric": "accuracy",
    "champion_metrics": {"accuracy": 0.82, "macro_f1": 0.79},
    "slices": [
        {"by": "script", "value": "Cyrillic", "rows": 40, "challenger": 0.5, "champion": 0.625},
        {"by": "script", "value": "Latin", "rows": 60, "challenger": 0.9, "champion": None},
    ],
    "runtime": {
        "latency": {"texts": 2, "rounds": 7, "challenger": [0.002, 0.004], "champion": [0.001, 0.002]},
        "tokens": [{"index": 0, "is_new": True, "rows": 100, "pieces": 1000, "unknown": 5, "cut": 1}],
    },
    "label_counts": {"<yes>": 40, "no": 60},
    "flips": {
        "lost": [
            {"record_id": "aa11", "set": 0, "target": "<yes>", "before": "<yes>", "after": "no", "confidence": 0.98},
            {"record_id": "bb22", "set": 0, "target": "no", "before": "no", "after": "<yes>", "confidence": None},
        ],
        "wrong": [
            {
                "record_id": "cc33", "set": 1, "target": ["O", "B-artist", "I-artist"], "before": None,
                "after": ["O", "B-city", "O"], "confidence": None,
            },
        ],
    },
}  # fmt: skip
TEXTS = {
    "aa11": ("my card was <b>charged</b> twice \u202e\x00", None),
    "bb22": ("</p></div><script>alert(1)</script>", None),
    "cc33": ("play Ana Lind", ("play", "Ana", "Lind")),
}


def _read(facts, report, decision):
    """Give the three papers as they are read from a version's folder."""
    return {
        "facts": VersionFacts.from_json(facts),
        "report": EvaluationReport.from_json(report),
        "decision": PromotionDecision.from_json(decision),
    }


def report_page(*, facts, report, decision, **more):
    task = TAGGING if facts["model"].get("pipeline") == "token-classification" else TASK
    return render_report(**_read(facts, report, decision), task=task, **more)


def card_of(*, name, facts, report, decision):
    return render_model_card(name=name, **_read(facts, report, decision))


class Balance(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    VOID = frozenset({"meta", "link", "br", "line", "circle", "rect", "polyline"})
    MAY_STAND_ALONE = frozenset({"circle", "rect"})

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in self.VOID or tag in self.MAY_STAND_ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def _page(*, records=None, version=None, **changes):
    return report_page(
        name="my <model>",
        facts=FACTS,
        report={**REPORT, **changes},
        decision=DECISION,
        records=records,
        version=version,
    )


def test_report_page_is_one_well_formed_file_without_script_or_network():
    page = _page(**MORE, records=TEXTS)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not parser.seen & {"script", "img", "iframe"}
    assert re.findall(r"https?://|url\(|@import", page) == []
    assert re.findall(r"(?:href|src)=\"(?!#|data:,)", page) == []
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_report_page_escapes_names_messages_and_texts():
    page = _page(**MORE, records=TEXTS)
    assert "my &lt;model&gt;" in page
    assert "&lt;yes&gt;" in page
    assert "<yes>" not in page
    assert "<before>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "\u202e" not in page  # would turn the rest of the line round
    assert "\x00" not in page


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
    assert 'aria-label="average accuracy, forgetting after each experience"' in page


def test_report_page_marks_what_fell_in_the_matrix():
    page = _page(accuracy_matrix=[[0.9], [0.7, 0.8], [0.75, 0.8, 0.9]])
    assert '70.0 % <span class="bad small">▼20.0</span>' in page
    assert "▼15.0" in page  # from the best so far, not from the row before
    assert page.count("▼") == 2 + 1  # and the word of explanation


def test_report_page_of_a_first_version_of_entities_leaves_parts_out():
    page = _page(accuracy_matrix=[[0.5]], confusion=None, reliability=None)
    for title in ("Forgetting", "Reliability", "Confusions", "Worst rows", "Slices", "Latency"):
        assert f"<h2>{title}" not in page


def test_report_page_draws_the_matrix_of_many_labels_and_folds_their_table():
    names = [f"label {i}" for i in range(30)]
    matrix = [[5 if i == j else int(j == i + 1) for j in range(30)] for i in range(30)]
    labels = [{**REPORT["per_label"][0], "label": name, "f1": 0.5} for name in names]
    page = _page(confusion={"labels": names, "matrix": matrix}, per_label=labels)
    assert page.count("<td>5</td>") == 0
    assert "<title>label 3, answered label 4: 1</title>" in page
    assert page.count('class="fill-bad"') == 29
    assert "The 20 commonest of 29 confusions" in page
    assert "<summary>All 30 labels</summary>" in page


def test_report_page_shows_slices_latency_and_counts():
    page = _page(**MORE)
    assert "<bdi>Cyrillic</bdi>" in page
    assert "-12.5 %" in page
    assert "2.00 times the champion" in page
    assert "pieces unknown to the tokenizer" in page
    assert "records learnt in this update" in page


def test_report_page_says_how_full_the_replay_buffer_is():
    training = {**FACTS["training"], "buffer_records": 1432, "buffer_capacity": 2000}
    facts = {**FACTS, "training": training}
    page = report_page(name="m", facts=facts, report=REPORT, decision=DECISION)
    assert 'records in the replay buffer</td><td class="words">1,432 (at most 2,000)</td>' in page
    # Versions that were made before it was written down show nothing.
    assert "replay buffer" not in _page()


def test_report_page_shows_the_texts_of_the_worst_rows():
    page = _page(**MORE, records=TEXTS)
    assert "my card was &lt;b&gt;charged&lt;/b&gt; twice" in page
    assert 'now <b class="bad"><bdi>no</bdi></b> (98.0 % sure)' in page
    without = _page(**MORE)
    assert "charged" not in without
    assert "Lind" not in without
    assert "<code>aa11</code>" in without


def test_report_page_shows_entities_in_words():
    facts = {**FACTS, "model": {**FACTS["model"], "pipeline": "token-classification"}}
    flips = {"wrong": MORE["flips"]["wrong"]}
    report = {**REPORT, **MORE, "flips": flips}
    page = report_page(name="m", facts=facts, report=report, decision=DECISION, records=TEXTS)
    assert "expected <b><bdi>Ana Lind (artist)</bdi></b>" in page
    without = report_page(name="m", facts=facts, report=report, decision=DECISION)
    assert "expected <b><bdi>artist</bdi></b>" in without


def test_texts_of_forgotten_records_leave_the_page_and_the_rest_stays():
    page = _page(**MORE, records=TEXTS)
    cleared, number = clear_cards(page, lambda record_id: record_id in ("aa11", "cc33"))
    assert number == 2
    assert "charged" not in cleared
    assert "Lind" not in cleared
    assert "alert(1)" in cleared
    assert cleared.count(FORGOTTEN) == 2
    parser = Balance()
    parser.feed(cleared)
    assert parser.open == []
    assert clear_cards(cleared, lambda _: False) == (cleared, 0)
    assert clear_cards(cleared, lambda record_id: record_id == "aa11") == (cleared, 0)


def test_the_number_goes_into_title_and_heading_only():
    shown = {"aa11": (f"a text that says {VERSION_MARK}", None)}
    page = with_version(_page(**MORE, records=shown, version=VERSION_MARK), 12)
    assert "<title>my &lt;model&gt;, version 12</title>" in page
    assert "<h1>my &lt;model&gt;, version 12</h1>" in page
    assert f"a text that says {VERSION_MARK}" in page


def test_papers_say_what_was_not_worth_the_change():
    outcome = {"rule": "worth", "passed": False, "keeps": True, "message": "Next to nothing."}
    value = {
        "champion": 3,
        "promoted": False,
        "outcomes": [{**outcome, "rule": "gain", "passed": True, "keeps": False}, outcome],
    }
    page = report_page(name="m", facts=FACTS, report=REPORT, decision=value, records=None)
    assert '<span class="verdict warn">It was not worth the change' in page
    assert '<b>worth</b> <span class="warn">not worth it</span>' in page
    assert page.index("<b>worth</b>") < page.index("<b>gain</b>")
    card = card_of(name="m", facts=FACTS, report=REPORT, decision=value)
    assert "| worth | not worth it | Next to nothing. |" in card


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_model_card_names_measures_rules_and_limits(precision):
    facts = {**FACTS, "model": {**FACTS["model"], "precision": precision}}
    card = card_of(name="my: model", facts=facts, report=REPORT, decision=DECISION)
    head = card.split("---")[1]
    assert 'base_model: "bert-tiny"' in head
    assert '- name: "my: model"' in head
    assert "      value: 0.8000" in head
    assert "backward transfer" not in card
    assert "| gain | refused | worse \\| than &lt;before&gt; |" in card
    assert "ORTModelForSequenceClassification" in card
    assert "optimum-onnx 0.1 needs transformers 4.57" in card
    assert ("8-bit" in card) is (precision == "int8")


def test_model_card_is_read_by_the_hub_library():
    from huggingface_hub import ModelCard

    labels = [{**REPORT["per_label"][0], "label": name} for name in ("<yes>", "a`b\n|c")]
    card = ModelCard(
        card_of(
            name="my: model", facts=FACTS, report={**REPORT, "per_label": labels}, decision=DECISION
        )
    )
    data = card.data
    assert (data.library_name, data.pipeline_tag) == ("onnxruntime", "text-classification")
    assert (data.base_model, data.model_name) == ("bert-tiny", "my: model")
    results = {item.metric_type: item for item in data.eval_results}
    assert results["accuracy"].metric_value == 0.8
    assert results["macro_f1"].metric_name == "macro F1"
    assert "backward_transfer" not in results  # not measured
    assert {item.task_type for item in data.eval_results} == {"text-classification"}
    assert ModelCard(str(card)).data.to_dict() == data.to_dict()
    assert "`a'b \\|c`" in card.text


def test_model_card_of_entities_and_of_a_base_that_is_a_folder():
    from huggingface_hub import ModelCard

    model = {**FACTS["model"], "pipeline": "token-classification", "base": "/home/me/models/tiny"}
    text = card_of(name="m", facts={**FACTS, "model": model}, report=REPORT, decision=DECISION)
    card = ModelCard(text)
    assert card.data.pipeline_tag == "token-classification"
    assert card.data.base_model is None
    assert "/home/me" not in text
    assert "ORTModelForTokenClassification" in text


def test_model_card_of_a_task_that_no_hub_knows_has_no_pipeline_tag():
    from huggingface_hub import ModelCard

    model = {**FACTS["model"], "task": "ratings", "pipeline": None}
    text = card_of(name="m", facts={**FACTS, "model": model}, report=REPORT, decision=DECISION)
    card = ModelCard(text)
    assert card.data.pipeline_tag is None
    assert {item.task_type for item in card.data.eval_results} == {"ratings"}
    assert "A ratings model" in text
    assert "text-classification" not in text


def test_papers_are_written_beside_their_reports(tmp_path):
    write_json_atomic(tmp_path / "report.json", REPORT)
    write_json_atomic(tmp_path / "decision.json", DECISION)
    assert (
        write_report_page(tmp_path, name="m", task=TASK, facts=VersionFacts.from_json(FACTS)).name
        == "report.html"
    )
    assert (
        write_model_card(tmp_path, name="m", facts=VersionFacts.from_json(FACTS)).name
        == "MODEL_CARD.md"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "MODEL_CARD.md",
        "decision.json",
        "report.html",
        "report.json",
    ]
