from __future__ import annotations

import copy
import json

import pytest
import torch

from contlearn.errors import ConfigError
from contlearn.interfaces import HeadSpec
from contlearn.modeling.checkpoint import load_checkpoint
from contlearn.testing import write_tiny_model
from contlearn.training import session
from contlearn.training.compiled import compiling, is_worth_compiling, layers_of
from contlearn.training.dropout import cheap_dropout
from contlearn.training.fit import fit_challenger
from tests.texts import WORDS
from tests.unit.training.conftest import texts

pytestmark = pytest.mark.filterwarnings(
    "ignore:training.learning_rate:contlearn.training.optim.LearningRateWarning"
)


@pytest.fixture
def model(lineage):
    from contlearn.modeling.checkpoint import new_checkpoint
    from contlearn.types import LabelSpace

    return new_checkpoint(
        str(lineage.base), head=HeadSpec(name="logits", outputs=LabelSpace(("a", "b")))
    ).model


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """One layer: each is compiled by itself, and takes many seconds."""
    folder = tmp_path_factory.mktemp("base") / "small"
    return write_tiny_model(folder, words=WORDS, hidden_size=32, layers=1)


def test_compiling_by_itself_is_for_long_trainings_on_a_gpu():
    def choose(wanted, device="cuda", steps=10_000, has_compiler=True):
        return is_worth_compiling(wanted, device=device, steps=steps, has_compiler=has_compiler)

    assert choose("auto")
    assert not choose("auto", steps=20)
    assert not choose("auto", device="cpu")
    assert not choose("auto", has_compiler=False)
    assert choose("on", device="cpu", steps=1)
    assert not choose("off")
    with pytest.raises(ConfigError, match="no compiler for cpu"):
        choose("on", device="cpu", has_compiler=False)


def test_compiling_without_a_compiler_is_refused(model, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with (
        pytest.raises(ConfigError, match="training.compile"),
        compiling(model, wanted="on", steps=1),
    ):
        pass


def test_compiling_leaves_names_and_modules_as_they_are(model):
    names, states = [n for n, _ in model.named_parameters()], list(model.state_dict())
    layers = layers_of(model.encoder)
    assert len(layers) == model.encoder.config.num_hidden_layers
    with compiling(model, wanted="on", steps=1) as is_compiled:
        assert is_compiled
        assert all(layer._compiled_call_impl is not None for layer in layers)
        assert [n for n, _ in model.named_parameters()] == names
        assert list(model.state_dict()) == states
        # A teacher that a plugin copies is an ordinary model.
        assert layers_of(copy.deepcopy(model).encoder)[0]._compiled_call_impl is None
    assert all(layer._compiled_call_impl is None for layer in layers)


@pytest.mark.slow
# torch 2.14.1's tracer looks at the gradient of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    ("method", "regularizers"),
    [("full", [{"name": "online-ewc"}, {"name": "lwf"}, {"name": "fgm"}]), ("lora", [])],
)
def test_compiled_training_gives_the_same_weights_under_the_same_names(
    lineage, small_model, monkeypatch, method, regularizers
):
    lineage.base = small_model
    # The compiler keeps torch's own draws: what it is compared with has to draw the same.
    monkeypatch.setattr(session, "cheap_dropout", lambda *, wanted: cheap_dropout(wanted=False))
    settings = {"strategy": "er", "epochs": 2, "learning_rate": 1e-3, "method": method}
    settings["regularizers"] = regularizers
    lineage.learn(texts(["billing", "garden"], 10), **settings)
    second, found = texts(["music"], 10), {}
    for name in ("off", "on"):
        request = lineage.request(second, name=name, compile=name, **settings)
        request.output.mkdir(parents=True)
        result = fit_challenger(request)
        model = load_checkpoint(result.checkpoint).model
        found[name] = {n: p.detach() for n, p in model.named_parameters()}
        kept = [p.name for p in (result.state / "regularizers").rglob("*")]
        assert ("importances.safetensors" in kept) == bool(regularizers)
        facts = (result.state / "state.json").read_text()
        assert "_orig_mod" not in facts + json.dumps(sorted(found[name]))
    assert list(found["on"]) == list(found["off"])
    start = load_checkpoint(lineage.champion / "checkpoint").model.state_dict()
    for name, plain in found["off"].items():
        assert torch.allclose(found["on"][name], plain, atol=2e-4), name
    moved = "encoder.encoder.layer.0.attention.self.query.weight"
    assert (found["off"][moved] - start[moved]).abs().max() > 1e-3
