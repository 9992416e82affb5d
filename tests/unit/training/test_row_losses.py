"""The losses of heads that are not learnt by softmax, against those of torch and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from contlearn.config import TrainingConfig
from contlearn.errors import ConfigError
from contlearn.training.losses import fit_of, make_loss, row_losses
from contlearn.training.scoring import fit_share, right_share
from contlearn.types import LabelSpace

SCORES = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0]])
SPACE = LabelSpace(("a", "b", "c"))
CPU = torch.device("cpu")


def test_softmax_is_cross_entropy():
    targets = torch.tensor([0, 2])
    expected = functional.cross_entropy(SCORES, targets, reduction="none")
    assert torch.equal(row_losses("softmax", SCORES, targets), expected)


def test_ordinal_learns_each_step_that_is_reached():
    found = row_losses("ordinal", SCORES, torch.tensor([1, 3]))
    steps = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    expected = functional.binary_cross_entropy_with_logits(SCORES, steps, reduction="none")
    assert torch.allclose(found, expected.mean(dim=1))


def test_sigmoid_learns_each_output_by_itself():
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    expected = functional.binary_cross_entropy_with_logits(SCORES, targets, reduction="none")
    assert torch.allclose(row_losses("sigmoid", SCORES, targets), expected.mean(dim=1))


def test_squared_is_the_mean_of_squares():
    targets = torch.tensor([[2.0, -1.0, 0.5], [3.0, 1.0, -2.0]])
    assert row_losses("squared", SCORES, targets).tolist() == [0.0, 3.0]


@pytest.mark.parametrize("kind", ["softmax", "ordinal", "sigmoid", "squared"])
def test_fit_is_best_for_what_was_learnt(kind):
    targets = {
        "softmax": torch.tensor([0, 1]),
        "ordinal": torch.tensor([1, 2]),
        "sigmoid": torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
        "squared": torch.tensor([[9.0, -9.0, -9.0], [9.0, 9.0, -9.0]]),
    }[kind]
    right = torch.tensor([[9.0, -9.0, -9.0], [9.0, 9.0, -9.0]])
    if kind in ("softmax", "sigmoid"):
        right = torch.tensor([[9.0, -9.0, -9.0], [-9.0, 9.0, -9.0]])
    assert (fit_of(kind, right, targets) > 0.99).all()
    assert (fit_of(kind, -right, targets) < 0.01).all()


def test_fit_of_a_softmax_head_is_the_probability_of_the_right_label():
    logits, targets = SCORES.numpy().astype(np.float64), torch.tensor([0, 1])
    assert np.array_equal(
        fit_share("softmax", logits, targets), right_share(logits, targets.numpy())
    )


@pytest.mark.parametrize(
    "settings", [{"loss": "focal"}, {"class_weights": "balanced"}, {"label_smoothing": 0.1}]
)
def test_keys_about_labels_are_refused_where_there_are_none(settings):
    config = TrainingConfig.model_validate(settings)
    with pytest.raises(ConfigError, match="learnt as 'ordinal'"):
        make_loss(config, kind="ordinal", space=SPACE, shown=[], device=CPU)
    assert make_loss(TrainingConfig(), kind="ordinal", space=SPACE, shown=[], device=CPU)
