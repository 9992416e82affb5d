"""Every training method: it learns, is saved and read back, goes on, and is exported in parity."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from contlearn.config import ExportConfig, TrainingConfig
from contlearn.errors import ConfigError
from contlearn.export.onnx import export_model
from contlearn.interfaces import HeadSpec
from contlearn.modeling.additions import addition_of, inner_encoder
from contlearn.modeling.checkpoint import load_checkpoint, new_checkpoint
from contlearn.modeling.text_model import TextModel
from contlearn.training.encoded import encode_records
from contlearn.training.fit import fit_challenger
from contlearn.training.methods import METHODS, make_method
from contlearn.training.optim import make_optimizer
from contlearn.training.scoring import logits_of
from contlearn.types import LabelSpace
from tests.unit.training.conftest import texts

pytestmark = pytest.mark.filterwarnings(
    "ignore:training.learning_rate:contlearn.training.optim.LearningRateWarning"
)
OPTIONS = {
    "top-layers": {"layers": 1},
    "lora": {"rank": 4},
    "peft": {"config": "LoHaConfig", "arguments": {"r": 2, "target_modules": ["query", "value"]}},
    "prompt-tuning": {"tokens": 4},
    "p-tuning": {"tokens": 4, "hidden_size": 16},
    "prefix-tuning": {"tokens": 4},
    "bottleneck": {"reduction_factor": 8},
}
# What stays around the encoder; all else is merged or part of it.
KEPT = {
    "prompt-tuning": "prompt",
    "p-tuning": "prompt",
    "prefix-tuning": "prefix",
    "bottleneck": "bottleneck",
}
UNCHANGED = {"head-only", *KEPT}


def base_weights(model):
    return {n: p.detach().clone() for n, p in inner_encoder(model.encoder).named_parameters()}


@pytest.fixture
def fitted(lineage):
    def learn(method, **settings):
        settings = {"strategy": "er", "epochs": 2, "learning_rate": 0, **settings}
        return lineage.learn(
            texts(["billing", "garden"], 12, seed=lineage.index),
            method=method,
            method_options=OPTIONS.get(method, {}),
            **settings,
        )

    return learn


def marked(methods):
    """The methods, where the one that needs adapters is left out under transformers 5."""
    mark = pytest.mark.transformers4
    return [pytest.param(name, marks=[mark] if name == "bottleneck" else []) for name in methods]


@pytest.mark.slow
@pytest.mark.parametrize("method", marked(METHODS))
def test_method_learns_twice_and_is_exported_in_parity(method, lineage, fitted, tmp_path):
    records = texts(["billing", "garden"], 4, seed=9)
    first = fitted(method)
    assert (first.trained_share == 1.0) == (method == "full")
    one = load_checkpoint(lineage.champion / "checkpoint")
    addition = addition_of(one.model.encoder)
    assert (addition.kind if addition else None) == KEPT.get(method)
    before = base_weights(
        new_checkpoint(str(lineage.base), head=HeadSpec(name="logits", outputs=LabelSpace())).model
    )
    now = base_weights(one.model)
    same = all(torch.equal(before[name], now[name]) for name in before)
    assert same == (method in UNCHANGED)
    second = fitted(method)
    assert second.steps > 0
    # The finished model: what is read back, what is exported and what was trained agree.
    two = load_checkpoint(lineage.champion / "checkpoint")
    if addition is not None:
        kept, later = addition.tensors(), addition_of(two.model.encoder).tensors()
        assert kept.keys() == later.keys()
        assert not all(torch.equal(kept[name], later[name]) for name in kept)
    report = export_model(
        lineage.champion / "checkpoint",
        tmp_path / "onnx",
        task=lineage.task,
        samples=[record.inputs for record in records],
        options=ExportConfig(precision="fp32"),
        max_tokens=32,
    )
    assert report.max_abs_difference < 1e-3
    assert report.label_agreement == 1.0


@pytest.mark.parametrize("method", marked(KEPT))
def test_training_goes_on_exactly_where_the_champion_stands(method, lineage, fitted):
    fitted(method)
    checkpoint = load_checkpoint(lineage.champion / "checkpoint")
    data = encode_records(
        texts(["billing", "garden"], 4), checkpoint, task=lineage.task,
        space=checkpoint.model.labels, max_tokens=32,
    )  # fmt: skip
    before = logits_of(checkpoint.model, data)
    chosen = make_method(method, OPTIONS[method])
    chosen.begin(checkpoint.model, max_tokens=32)
    during = logits_of(checkpoint.model, data)
    chosen.end(checkpoint.model)
    assert np.abs(during - before).max() < 1e-5
    assert np.abs(logits_of(checkpoint.model, data) - before).max() < 1e-5


@pytest.mark.parametrize("method", marked(KEPT))
def test_full_fine_tuning_goes_on_from_a_model_with_an_addition(method, lineage, fitted):
    fitted(method)
    result = fitted("full", learning_rate=1e-3)
    assert result.trained_share == 1.0
    model = load_checkpoint(lineage.champion / "checkpoint").model
    assert addition_of(model.encoder).kind == KEPT[method]


@pytest.mark.parametrize(
    "options",
    [{"use_dora": True}, {"use_rslora": True}, {"init": "pissa"}, {"init": "orthogonal"}],
)
def test_variants_of_lora_are_merged(options, tiny_model):
    model = new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=LabelSpace(("a",)))
    ).model
    names = set(base_weights(model))
    method = make_method("lora", {"rank": 2, **options})
    method.begin(model)
    method.end(model)
    assert set(base_weights(model)) == names


def test_default_of_replay_gives_the_champion_back_when_a_prompt_is_no_better(lineage, monkeypatch):
    def frozen(candidates, weights, *, evidence):
        assert evidence == 0.0  # nothing can be forgotten yet: the best is taken
        return next(candidate for candidate in candidates if not candidate.is_tuned)

    monkeypatch.setattr("contlearn.training.candidates.choose", frozen)
    result = lineage.learn(
        texts(["billing", "garden"], 30),
        method="prompt-tuning",
        method_options={"tokens": 4},
        epochs=1,
    )
    assert result.notes["choice"]["chosen"] == "frozen"
    model = load_checkpoint(lineage.champion / "checkpoint").model
    assert addition_of(model.encoder) is None


def test_a_prompt_survives_a_kill_in_the_middle(lineage, tmp_path, monkeypatch):
    from contlearn.training import fine_tuning

    records = texts(["billing", "garden"], 20)
    settings = {
        "strategy": "naive", "epochs": 2, "method": "p-tuning", "learning_rate": 0,
        "method_options": OPTIONS["p-tuning"], "checkpoint_steps": 1,
    }  # fmt: skip
    straight = lineage.request(records, name="straight", **settings)
    straight.output.mkdir()
    fit_challenger(straight)

    class Killed(BaseException):
        pass

    save, count = fine_tuning.FineTuning._save, iter(range(100))

    def kill(self, **arguments):
        save(self, **arguments)
        if next(count) == 3:
            raise Killed

    cut = lineage.request(records, name="cut", **settings)
    cut.output.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(fine_tuning.FineTuning, "_save", kill)
        with pytest.raises(Killed):
            fit_challenger(cut)
    result = fit_challenger(cut)
    assert result.notes["fine_tuning"]["resumed_at"] > 0
    one = (straight.output / "checkpoint" / "addition.safetensors").read_bytes()
    assert one == (cut.output / "checkpoint" / "addition.safetensors").read_bytes()


def test_a_method_brings_its_own_rate_unless_one_is_given(tiny_model):
    model = new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=LabelSpace(("a",)))
    ).model
    method = make_method("lora", {"rank": 2})
    method.begin(model)

    def rates(**settings):
        groups = make_optimizer(model, TrainingConfig(method="lora", **settings)).param_groups
        return {group["lr"] for group in groups}

    assert rates() == {5e-4, 1e-3}
    assert rates(learning_rate=2e-3) == {2e-3, 1e-3}


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("prompt-tuning", {"tokens": 60}, "no room for 60 virtual pieces"),
        ("top-layers", {"layers": 9}, "the encoder has 2 layers"),
        ("peft", {"config": "NoSuchConfig"}, "has no class NoSuchConfig"),
        ("peft", {"config": "PromptTuningConfig"}, "cannot be merged"),
        ("peft", {"config": "VeraConfig", "arguments": {"rr": 1}}, "cannot be put into"),
        ("ia3", {"target_modules": ["nothing"]}, "cannot be put into"),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused(method, options, message, tiny_model):
    model = new_checkpoint(
        str(tiny_model), head=HeadSpec(name="logits", outputs=LabelSpace(("a",)))
    ).model
    with pytest.raises(ConfigError, match=message):
        make_method(method, options).begin(model, max_tokens=32)


def test_a_prompt_finds_no_room_where_places_are_counted_behind_the_padding():
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=34, pad_token_id=1,
    )  # fmt: skip
    head = HeadSpec(name="logits", outputs=LabelSpace(("a",)))
    model = TextModel(RobertaModel(config, add_pooling_layer=False), head=head)
    with pytest.raises(ConfigError, match="reads 32 pieces: no room for 4") as caught:
        make_method("prompt-tuning", {"tokens": 4}).begin(model, max_tokens=30)
    assert "at most 2" in caught.value.hint


def longer(request, max_tokens):
    request.output.mkdir()
    model = request.model.model_copy(update={"max_tokens": max_tokens})
    return dataclasses.replace(request, model=model)


def test_texts_too_long_behind_the_champions_prompt_are_refused(lineage, fitted):
    fitted("prompt-tuning")
    records = texts(["billing", "garden"], 5, seed=3)
    with pytest.raises(ConfigError) as caught:
        fit_challenger(longer(lineage.request(records, method="full"), 64))
    assert "reads at most 60 tokens behind the 4 trained vectors" in caught.value.what
    # One that begins again leaves the prompt behind.
    again = lineage.request(records, name="again", strategy="from-scratch", epochs=1)
    assert fit_challenger(longer(again, 64)).steps > 0
    too_long = lineage.request(records, name="too-long", strategy="from-scratch")
    with pytest.raises(ConfigError, match=r"reads at most 64 tokens\."):
        fit_challenger(longer(too_long, 65))


@pytest.mark.parametrize("method", ["prefix-tuning", "bottleneck"])
def test_another_addition_than_the_champions_is_refused(fitted, method):
    fitted("prompt-tuning")
    with pytest.raises(ConfigError, match="The champion carries a"):
        fitted(method)


def test_a_checkpoint_with_an_addition_says_so_to_older_readers(lineage, fitted):
    fitted("prompt-tuning")
    facts = json.loads((lineage.champion / "checkpoint" / "checkpoint.json").read_text())
    assert facts["format_version"] == 2
