"""Which base models are refused, by their family's name or by what they do."""

from __future__ import annotations

import json

import pytest

from contlearn.errors import ConfigError
from contlearn.modeling import base_check
from contlearn.modeling.base_check import check_family
from contlearn.modeling.base_models import load_encoder, look_at_base
from contlearn.modeling.base_trial import check_reading
from contlearn.modeling.checkpoint import position_limit
from contlearn.operations.base import try_base
from tests.encoders import FAMILIES, write_family

TEXTS = ["invoice refund today", "rose tulip garden water", "my parcel is wrong"] * 3


def tiny(name, folder):
    (family,) = (family for family in FAMILIES if family.name == name)
    return write_family(folder / "base", family, TEXTS)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "gpt2"}, "reads a text from left to right"),
        ({"model_type": "qwen2"}, "reads a text from left to right"),
        ({"model_type": "bert", "is_decoder": True}, "reads a text from left to right"),
        ({"model_type": "t5"}, "by an encoder and a decoder"),
        ({"model_type": "new", "is_encoder_decoder": True}, "by an encoder and a decoder"),
        ({"model_type": "canine"}, "reads characters"),
        ({"model_type": "longformer"}, "cannot be written as a graph"),
    ],
)
def test_a_family_that_cannot_go_is_refused_by_its_name_before_anything_is_loaded(
    tmp_path, config, reason
):
    (tmp_path / "config.json").write_text(json.dumps(config))
    for look in (look_at_base, try_base, lambda base: load_encoder(str(base))):
        with pytest.raises(ConfigError) as caught:
            look(str(tmp_path))
        assert f"of the family {config['model_type']!r}, and " in caught.value.what or (
            "could not be loaded" in caught.value.what and config["model_type"] == "new"
        )
        if config["model_type"] != "new":
            assert reason in caught.value.what
        assert caught.value.where == "model.base in contlearn.toml"
    with pytest.raises(ConfigError, match=reason):
        check_family(config, what="It")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gpt2", "its pieces do not see what comes after them"),
        ("qwen2", "its pieces do not see what comes after them"),
        ("convbert", "it reads the padding behind a text"),
        ("bros", "it cannot be given ids and mask alone (You have to specify bbox)"),
        ("reformer", "it gives (1, 12, 64) for 12 pieces"),
    ],
)
def test_a_family_nobody_has_named_is_refused_by_what_it_does(monkeypatch, tmp_path, name, reason):
    monkeypatch.setattr(base_check, "_UNFIT", {})
    base = str(tiny(name, tmp_path))
    with pytest.raises(ConfigError) as caught:
        check_reading(load_encoder(base), what="The base model 'x'")
    said = f"The base model 'x' cannot be used: it is of the family {name!r}, and {reason}"
    assert caught.value.what.startswith(said)
    with pytest.raises(ConfigError, match="cannot be used"):
        try_base(base)


@pytest.mark.transformers4  # under 5 its tokenizer wants another file
def test_a_family_that_no_graph_can_be_made_of_is_refused_when_it_is_tried(monkeypatch, tmp_path):
    monkeypatch.setattr(base_check, "_UNFIT", {})
    base = str(tiny("tapas", tmp_path))
    check_reading(load_encoder(base), what="It")
    with pytest.raises(ConfigError, match="a short copy of it failed: .*cannot be written as ONNX"):
        try_base(base)


@pytest.mark.parametrize(
    "name", ["deberta", "deberta-v2", "electra", "modernbert", "mpnet", "xlnet"]
)
def test_an_encoder_is_loaded_with_the_attention_it_has_and_goes(tmp_path, name):
    base = tiny(name, tmp_path)
    encoder = load_encoder(str(base))
    has_sdpa = bool(type(encoder)._supports_sdpa)
    assert encoder.config._attn_implementation == ("sdpa" if has_sdpa else "eager")
    assert load_encoder(str(base), attention="eager").config._attn_implementation == "eager"
    look = try_base(str(base))
    assert (look.limit, look.notes) == (position_limit(encoder), ())


def test_reading_a_text_leaves_an_encoder_as_it_was(tiny_model):
    encoder = load_encoder(str(tiny_model)).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    check_reading(encoder, what="It")
    assert encoder.training
    assert all(value.equal(before[name]) for name, value in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_sparse_attention_that_short_texts_end_is_read_as_full_from_the_start(tmp_path):
    encoder = load_encoder(str(tiny("big_bird sparse", tmp_path)))
    assert encoder.attention_type == encoder.config.attention_type == "original_full"


def test_a_table_of_places_of_another_class_is_seen(tmp_path):
    encoder = load_encoder(str(tiny("ibert", tmp_path)))
    assert position_limit(encoder) == 131  # 132 places, counted from behind the padding's


def test_a_base_whose_weights_are_elsewhere_is_said_to_be_untried(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (note,) = try_base(str(tmp_path)).notes
    assert "was not tried, because its weights (model.safetensors) are not on this machine" in note


def test_a_base_is_untried_where_training_cannot_be_imported(monkeypatch, tiny_model):
    import sys

    monkeypatch.setitem(sys.modules, "contlearn.export.trial", None)
    (note,) = try_base(str(tiny_model)).notes
    assert "because the packages for training cannot be imported here" in note
    assert note.endswith("the first update does it.")


def test_a_base_without_its_weights_or_tokenizer_is_refused_when_it_is_tried(tiny_model, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "base")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ConfigError, match="could not be loaded"):
        try_base(str(folder))
