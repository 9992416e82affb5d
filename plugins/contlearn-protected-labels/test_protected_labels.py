"""Runs contlearn's own checks on the plugin, and tries it as the gate and the program would."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import contlearn_protected_labels as plugin
import pytest

from contlearn.config import GateConfig
from contlearn.errors import EvaluationError, PluginError
from contlearn.evaluation.gate import decide
from contlearn.interfaces import GateEvidence
from contlearn.plugins.manager import PluginManager
from contlearn.tasks.text_classification import TextClassification
from contlearn.testing import check_class
from contlearn.types import Event, LabelSpace, PairedScores, SetScores

LABELS = LabelSpace(("emergency", "thanks"))
TASK = TextClassification()


@pytest.fixture
def manager():
    manager = PluginManager(discover=False)
    manager.register(plugin, name="protected-labels", distribution="contlearn-protected-labels")
    return manager


def _scores(answers, targets):
    statistics = TASK.statistics(answers, targets, LABELS)
    return SetScores(
        experience="c0",
        index=0,
        rows=len(targets),
        metrics={},
        statistics=statistics,
        predictions=tuple(answers),
    )


def _decide(manager, missed, *, options=None, champion=True):
    """Twenty emergencies and twenty thanks; the champion knows all, the challenger misses some."""
    targets = ["emergency"] * 20 + ["thanks"] * 20
    answers = ["thanks"] * missed + ["emergency"] * (20 - missed) + ["thanks"] * 20
    pair = PairedScores(
        experience="c0",
        index=0,
        is_new=False,
        challenger=_scores(answers, targets),
        champion=_scores(targets, targets) if champion else None,
        targets=tuple(targets),
    )
    config = GateConfig(
        rules=("protected-labels",),
        rule_options={"protected-labels": options or {"labels": ["emergency"], "max_loss": 0.02}},
    )
    evidence = GateEvidence(
        task=TASK, labels=LABELS, sets=(pair,), metric="accuracy", config=config, seed=0, parity={}
    )
    return decide(evidence, manager).outcomes[0]


def test_plugin_passes_the_checks_of_contlearn():
    assert check_class("gate rule", plugin.ProtectedLabels) == []


def test_rule_refuses_lost_recall_of_a_protected_label(manager):
    outcome = _decide(manager, missed=3)
    assert (outcome.passed, outcome.measured, outcome.required) == (
        False,
        pytest.approx(0.15),
        0.02,
    )
    assert (
        outcome.message
        == "'emergency': recall on 20 old rows went from 100.0% to 85.0%; it may lose 2.0%."
    )


def test_rule_forgives_one_row_and_other_labels(manager):
    assert _decide(manager, missed=1).passed is True
    assert (
        _decide(manager, missed=5, options={"labels": ["thanks"], "max_loss": 0.02}).passed is True
    )


def test_rule_does_not_apply_without_a_champion(manager):
    assert _decide(manager, missed=0, champion=False).passed is None


def test_rule_refuses_unknown_labels_and_missing_options(manager):
    with pytest.raises(EvaluationError, match="'emergenzy' are not known"):
        _decide(manager, missed=0, options={"labels": ["emergenzy"], "max_loss": 0.02})
    with pytest.raises(PluginError, match="max_loss: Field required"):
        _decide(manager, missed=0, options={"labels": ["emergency"]})


def test_observer_writes_one_line_for_each_change_of_the_champion(tmp_path, monkeypatch, manager):
    path = tmp_path / "champions.jsonl"
    monkeypatch.setenv(plugin.LOG_VARIABLE, str(path))
    at = datetime(2030, 1, 1, tzinfo=UTC)
    for kind, version in (("cycle-started", None), ("promoted", 2), ("rolled-back", 1)):
        manager.notify(
            Event(kind=kind, at=at, workspace="/w", fields={"version": version, "actor": "ada"})
        )
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["event"], line["version"], line["actor"]) for line in lines] == [
        ("promoted", 2, "ada"),
        ("rolled-back", 1, "ada"),
    ]
    assert manager.observer_errors == 0
    monkeypatch.delenv(plugin.LOG_VARIABLE)
    manager.notify(Event(kind="promoted", at=at, workspace="/w", fields={}))
    assert len(path.read_text().splitlines()) == 2
