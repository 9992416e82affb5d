from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional

from contlearn.training import dropout
from contlearn.training.dropout import cheap_dropout, dropping_alike
from tests.unit.training.conftest import texts


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(3)


def own(call):
    """What torch itself answers, drawn from the same state."""
    torch.manual_seed(3)
    return call()


@pytest.mark.parametrize("p", [0.1, 0.25, 0.9])
def test_values_are_dropped_with_the_probability_asked_for(p):
    values = torch.ones(400, 1001, requires_grad=True)
    with cheap_dropout(wanted=True):
        found = functional.dropout(values, p)
    zeros = float((found == 0).double().mean())
    # 400,400 draws: four standard deviations are 0.0032 at most.
    assert abs(zeros - p) < 0.0032
    assert torch.allclose(found[found != 0], torch.tensor(1 / (1 - p)), rtol=1e-3)
    found.sum().backward()
    assert torch.equal(values.grad, found.detach())


def test_neighbours_and_rows_are_dropped_independently():
    with cheap_dropout(wanted=True):
        kept = (functional.dropout(torch.ones(500, 1000), 0.5) != 0).double()
    for shift in (1, 2, 3, 4, 8):
        both = float((kept[:, :-shift] * kept[:, shift:]).mean())
        assert abs(both - 0.25) < 0.003
    assert abs(float((kept[:-1] * kept[1:]).mean()) - 0.25) < 0.003


def test_modules_draw_cheaply_too_and_the_same_from_the_same_state():
    values, drop = torch.ones(64, 64), nn.Dropout(0.3)
    plain = own(lambda: drop(values))
    with cheap_dropout(wanted=True):
        first, again = own(lambda: drop(values)), own(lambda: drop(values))
        state = torch.get_rng_state()
        third = drop(values)
        torch.set_rng_state(state)
        assert torch.equal(drop(values), third)
    assert torch.equal(first, again)
    assert not torch.equal(first, plain)  # other draws
    assert not torch.equal(first, third)
    assert torch.equal(own(lambda: drop(values)), plain)  # over with the block


@pytest.mark.parametrize(
    "call",
    [
        lambda v: functional.dropout(v, 0.5, training=False),
        lambda v: functional.dropout(v, 0.0),
        lambda v: functional.dropout(v, 1.0),
        lambda v: functional.dropout(v, 1e-9),
        lambda v: functional.dropout(v.clone(), 0.5, inplace=True),
        lambda v: functional.scaled_dot_product_attention(v, v, v),
        lambda v: functional.scaled_dot_product_attention(v, v, v, dropout_p=0.5, is_causal=True),
    ],
)
def test_the_rest_is_torchs_own(call):
    values = torch.randn(1, 2, 5, 8)
    plain = own(lambda: call(values))
    with cheap_dropout(wanted=True):
        assert torch.equal(own(lambda: call(values)), plain)
    with cheap_dropout(wanted=False):
        assert torch.equal(own(lambda: call(values)), plain)


def test_a_probability_that_is_none_is_refused_as_torch_refuses_it():
    with cheap_dropout(wanted=True), pytest.raises(ValueError, match="between 0 and 1"):
        functional.dropout(torch.ones(3), 1.5)


MASKS = {
    "none": None,
    "boolean": torch.tensor([[True] * 6, [True] * 4 + [False] * 2]).view(2, 1, 1, 6),
    "added": torch.tensor([[0.0] * 6, [0.0] * 4 + [torch.finfo(torch.float32).min] * 2]).view(
        2, 1, 1, 6
    ),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", [None, 0.5])
def test_attention_is_torchs_but_for_what_is_dropped(mask, scale):
    query, key = torch.randn(2, 3, 6, 8), torch.randn(2, 3, 6, 8)
    value = torch.eye(6).expand(2, 3, 6, 6)  # the answer is the attention itself

    def attend(p):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=MASKS[mask], dropout_p=p, scale=scale
        )

    plain = attend(0.0)
    with cheap_dropout(wanted=True):
        draws = torch.stack([attend(0.25) for _ in range(300)])
    kept = draws != 0
    assert torch.allclose(draws[kept] * 0.75, plain.expand_as(draws)[kept], atol=1e-6)
    could_be = plain > 1e-6
    dropped = 1 - kept[:, could_be].double().mean()
    # 300 draws of 144 to 216 values: four standard deviations are 0.0084 at most.
    assert abs(float(dropped) - 0.25) < 0.0084


def test_attention_has_torchs_gradient():
    found = []
    for wanted in (False, True):
        inputs = [torch.randn(1, 2, 5, 4, generator=torch.manual_seed(k)) for k in range(3)]
        for each in inputs:
            each.requires_grad_(True)
        with cheap_dropout(wanted=wanted):
            # One value in 65,536 is dropped: with this seed none of the 50.
            functional.scaled_dot_product_attention(
                *inputs, dropout_p=1 / 65536 if wanted else 0.0
            ).square().sum().backward()
        found.append([each.grad for each in inputs])
    for plain, cheap in zip(*found, strict=True):
        assert torch.allclose(plain, cheap, rtol=1e-3, atol=1e-5)


def test_half_precision_stays_half():
    query = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16)
    with cheap_dropout(wanted=True):
        assert functional.dropout(query, 0.5).dtype == torch.bfloat16
        found = functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)
        assert found.dtype == torch.bfloat16
        with torch.autocast("cpu", dtype=torch.bfloat16):
            plain = query.float()
            found = functional.scaled_dot_product_attention(plain, plain, plain, dropout_p=0.5)
    assert found.dtype == torch.bfloat16


def test_other_threads_are_left_alone():
    values = torch.ones(50, 50)
    plain = own(lambda: functional.dropout(values, 0.5))
    with cheap_dropout(wanted=True), ThreadPoolExecutor(1) as threads:
        other = threads.submit(own, lambda: functional.dropout(values, 0.5)).result()
    assert torch.equal(other, plain)


def test_a_training_draws_cheaply(lineage, monkeypatch):
    draw, shapes = dropout._scales, []

    def drawn(values, p):
        shapes.append(values.dim())
        return draw(values, p)

    monkeypatch.setattr(dropout, "_scales", drawn)
    lineage.learn(texts(["billing", "garden"], 12), epochs=1, learning_rate=5e-5)
    assert {2, 3, 4} <= set(shapes)  # before the head, between layers, in the attention


@pytest.mark.parametrize("mask", [None, torch.tensor([True, True, False, True])])
def test_what_is_computed_again_drops_the_same_values(mask):
    from torch.utils.checkpoint import checkpoint

    first = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(1))

    def layer(values):
        seen = functional.scaled_dot_product_attention(
            values, values, values, attn_mask=mask, dropout_p=0.3
        )
        return functional.dropout(seen, 0.3) ** 2

    def gradient(*, again):
        values = first.clone().requires_grad_()
        torch.manual_seed(5)
        if again:
            found = checkpoint(layer, values, use_reentrant=False, context_fn=dropping_alike)
        else:
            found = layer(values)
        found.sum().backward()
        return values.grad

    with cheap_dropout(wanted=True):
        assert torch.equal(gradient(again=True), gradient(again=False))
    assert torch.equal(gradient(again=True), gradient(again=False))
