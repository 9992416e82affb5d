"""Every strategy and every regulariser learns two experiences, or says why it cannot."""

from __future__ import annotations

import contextlib

import pytest
import torch

from contlearn.config import ReplayConfig
from contlearn.errors import ContlearnError
from contlearn.modeling.checkpoint import load_checkpoint
from tests.conformance import matrix
from tests.unit.training.conftest import Lineage, sentences, texts

pytestmark = pytest.mark.filterwarnings(
    "ignore:training.learning_rate:contlearn.training.optim.LearningRateWarning",
    # avalanche 0.6.0 hands torch tensors to numpy in synaptic intelligence.
    "ignore:__array_wrap__ must accept context:DeprecationWarning",
)
_, STRATEGIES, REGULARIZERS = matrix.names()
SETTINGS = {"epochs": 1, "validation_ratio": 0.0, "learning_rate": 1e-3, "batch_size": 8}


def settings_of(name):
    if name in STRATEGIES:
        return {"strategy": name}
    strategy = "er" if name in matrix.WITH_REPLAY else "naive"
    return {"strategy": strategy, "regularizers": [{"name": name, **matrix.OPTIONS.get(name, {})}]}


def lineage_for(column, tmp_path, tiny_model):
    task = "token-classification" if column == "entities" else "text-classification"
    found = Lineage(tmp_path, tiny_model, task, **SETTINGS)
    found.replay = ReplayConfig(records_per_label=4)
    found.unlabelled = tmp_path / "unlabelled"
    found.unlabelled.mkdir()
    (found.unlabelled / "texts.txt").write_text("water the garden\nplay some music now\n" * 3)
    return found


def experiences_for(column):
    if column == "entities":
        return sentences(["city"], 8), sentences(["artist"], 8)
    if column == "fixed labels":
        return texts(["billing", "garden"], 5), texts(["billing", "garden"], 5, seed=4)
    return texts(["billing", "garden"], 5), texts(["music", "account"], 5)


@pytest.mark.slow
@pytest.mark.parametrize("column", matrix.COLUMNS)
@pytest.mark.parametrize("name", [*STRATEGIES, *REGULARIZERS])
def test_two_experiences_are_learnt_or_refused_with_a_reason(name, column, tmp_path, tiny_model):
    lineage = lineage_for(column, tmp_path, tiny_model)
    settings = settings_of(name)
    if column == "with lora":
        settings |= {"method": "lora", "method_options": {"rank": 2}}
    reason = matrix.REFUSED.get((name, column))
    first, second = experiences_for(column)
    refused = pytest.raises(ContlearnError, match=reason) if reason else contextlib.nullcontext()
    with refused:
        lineage.learn(first, **settings)
        result = lineage.learn(second, **settings)
    if reason:
        return
    model = load_checkpoint(lineage.champion / "checkpoint").model
    assert model.labels == result.label_space
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())
    kept = lineage.champion / "state" / "regularizers" / name
    assert kept.is_dir() == (name in matrix.KEEPS)
    if name in matrix.KEEPS:
        assert any(path.stat().st_size for path in kept.iterdir())


def test_page_shows_the_table_that_was_tested():
    assert matrix.page_with_table() == matrix.PAGE.read_text(encoding="utf-8"), (
        "run python -m tests.conformance.matrix"
    )
