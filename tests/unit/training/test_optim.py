from __future__ import annotations

import copy

import pytest
import torch

from contlearn.config import TrainingConfig
from contlearn.errors import ConfigError, TrainingError
from contlearn.interfaces import HeadSpec
from contlearn.modeling.checkpoint import new_checkpoint
from contlearn.training.methods import make_method
from contlearn.training.optim import (
    LearningRateWarning,
    freeze,
    high_rate,
    make_optimizer,
    warn_of_rate,
)
from contlearn.types import LabelSpace


@pytest.fixture
def model(tiny_model):
    return new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=LabelSpace(("a", "b")))
    ).model


def rates(model, **settings):
    optimizer = make_optimizer(model, TrainingConfig.model_validate(settings))
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    return {name: rate.get(id(p)) for name, p in model.named_parameters()}


def test_optimizer_gives_lower_layers_lower_rates(model):
    found = rates(model, learning_rate=1e-5, head_learning_rate=1e-3, layer_decay=0.5)
    assert found["head.weight"] == 1e-3
    assert found["encoder.encoder.layer.1.attention.self.query.weight"] == 1e-5
    assert found["encoder.encoder.layer.0.attention.self.query.weight"] == 5e-6
    assert found["encoder.embeddings.word_embeddings.weight"] == 2.5e-6


def test_optimizer_decays_weights_but_no_biases_or_norms(model):
    optimizer = make_optimizer(model, TrainingConfig(weight_decay=0.1))
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        plain = name.endswith("bias") or "LayerNorm" in name
        assert decay[id(parameter)] == (0.0 if plain else 0.1), name


def test_optimizer_puts_the_head_into_the_last_group(model):
    optimizer = make_optimizer(model, TrainingConfig())
    assert any(
        p is model.head.bias or p is model.head.weight for p in optimizer.param_groups[-1]["params"]
    )


def test_adamw_steps_in_one_kernel_as_it_would_without(model):
    plain = copy.deepcopy(model)
    settings = TrainingConfig(learning_rate=1e-2, weight_decay=0.1)
    one = make_optimizer(model, settings)
    other = make_optimizer(
        plain, settings.model_copy(update={"optimizer_options": {"fused": False}})
    )
    assert one.defaults["fused"]
    many = settings.model_copy(update={"optimizer_options": {"foreach": True}})
    assert not make_optimizer(model, many).defaults["fused"]
    assert not other.defaults["fused"]
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for a, b in zip(model.parameters(), plain.parameters(), strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        one.step()
        other.step()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_optimizer_can_be_sgd(model):
    optimizer = make_optimizer(model, TrainingConfig(optimizer="sgd", momentum=0.5))
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.5


def test_freeze_keeps_embeddings_and_the_first_layers(model):
    freeze(model.encoder, embeddings=False, layers=1)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert "encoder.embeddings.word_embeddings.weight" in frozen
    assert "encoder.encoder.layer.0.output.dense.weight" in frozen
    assert not {name for name in frozen if "layer.1" in name or "head" in name}


def test_freeze_says_how_many_layers_there_are(model):
    with pytest.raises(TrainingError, match="the encoder has 2 layers"):
        freeze(model.encoder, embeddings=False, layers=3)


def test_a_rate_that_destroys_an_encoder_is_warned_of():
    with pytest.warns(LearningRateWarning, match="is high for full fine-tuning"):
        warn_of_rate(TrainingConfig(learning_rate=1e-4))
    for harmless in ({"learning_rate": 9e-5}, {"learning_rate": 1e-3, "method": "lora"}):
        assert high_rate(TrainingConfig.model_validate(harmless)) is None
        warn_of_rate(TrainingConfig.model_validate(harmless))


def test_bitfit_trains_biases_and_the_head(model):
    make_method("bitfit", {}).begin(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "head.weight" in trained
    assert all(name.endswith("bias") or name.startswith("head.") for name in trained)


def test_lora_is_merged_without_a_trace(model):
    x = torch.tensor([[[2, 10, 11, 3], [1, 1, 1, 1]]])
    names = [name for name, _ in model.named_parameters()]
    method = make_method("lora", {"rank": 2})
    method.begin(model)
    trained = [p for name, p in model.named_parameters() if p.requires_grad and "head" not in name]
    assert 0 < sum(p.numel() for p in trained) < 0.3 * sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.05)
    before = model.eval()(x)
    method.end(model)
    assert torch.allclose(model(x), before, atol=1e-5)
    assert [name for name, _ in model.named_parameters()] == names


@pytest.mark.parametrize(
    ("name", "options", "message", "hint"),
    [
        ("lorra", {}, "no training method 'lorra'", "Did you mean 'lora'?"),
        ("lora", {"rnak": 3}, "rnak: Extra inputs", "rank, alpha"),
        ("lora", {"rank": 0}, "rank: Input should be greater", "rank, alpha"),
    ],
)
def test_make_method_refuses_what_it_does_not_know(name, options, message, hint):
    with pytest.raises(ConfigError, match=message) as caught:
        make_method(name, options)
    assert hint in caught.value.hint


def test_lora_names_layers_that_are_not_there(model):
    with pytest.raises(ConfigError, match="cannot be put into this encoder"):
        make_method("lora", {"target_modules": ["no_such_layer"]}).begin(model)
