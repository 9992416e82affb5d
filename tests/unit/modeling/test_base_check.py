"""Base models that a newer transformers has saved, and what is said about them."""

from __future__ import annotations

import json

import pytest

from contlearn.errors import ConfigError
from contlearn.modeling.base_check import base_fingerprint, check_saved_by
from contlearn.modeling.base_models import load_encoder, look_at_base

OLD = "4.57.6"


def write_config(folder, **facts):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def modern(folder, *, sliding=10_000.0, full=160_000.0, **more):
    """The configuration of a ModernBERT as transformers 5 writes it."""
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": full},
        "sliding_attention": {"rope_type": "default", "rope_theta": sliding},
    }
    facts = {"model_type": "modernbert", "transformers_version": "5.24.0", "rope_parameters": rope}
    return write_config(folder, **{**facts, **more})


def test_moved_rotary_parameters_are_refused_with_their_values(tmp_path):
    folder = modern(tmp_path / "base", sliding=160_000.0)
    with pytest.raises(ConfigError) as caught:
        check_saved_by(folder, installed=OLD)
    assert "saved by transformers 5.24.0, would be read wrongly by transformers 4.57.6" in str(
        caught.value
    )
    assert "rope_theta = 160000 stands in rope_parameters" in caught.value.what
    assert "looks for local_rope_theta or rope_local_base_freq and takes 10000" in caught.value.what
    assert str(folder / "config.json") in caught.value.where
    assert "save it again with transformers 4" in caught.value.hint


def test_moved_parameters_that_say_what_the_default_says_are_only_named(tmp_path):
    (note,) = check_saved_by(modern(tmp_path / "base"), installed=OLD)
    assert "saved by transformers 5.24.0, and 4.57.6 reads it" in note


def test_keys_that_are_there_under_both_names_are_read_right(tmp_path):
    folder = modern(tmp_path / "base", sliding=160_000.0, local_rope_theta=160_000.0)
    assert len(check_saved_by(folder, installed=OLD)) == 1


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "rope_theta = 500000"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}, "rope_theta": 1e4},
            "rope_type 'yarn'",
        ),
        (
            {
                "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5},
                "rope_theta": 1e4,
            },
            "partial_rotary_factor = 0.5",
        ),
        (
            {"model_type": "modernbert", "layer_types": ["full_attention"] * 4},
            "layer_types is not what global_attn_every_n_layers = 3 gives",
        ),
    ],
)
def test_every_key_that_moved_is_looked_for(tmp_path, facts, said):
    folder = write_config(
        tmp_path / "base", **{"model_type": "llama", "transformers_version": "5.0.0", **facts}
    )
    with pytest.raises(ConfigError) as caught:
        check_saved_by(folder, installed=OLD)
    assert said in caught.value.what
    # The version that writes them reads them.
    assert check_saved_by(folder, installed="5.1.0") == ()


@pytest.mark.parametrize("version", ["4.57.6", "4.30.0", None])
def test_an_older_or_equal_version_needs_no_word(tmp_path, version):
    folder = write_config(tmp_path / "base", model_type="bert", transformers_version=version)
    assert check_saved_by(folder, installed=OLD) == ()


@pytest.mark.transformers4  # version 5 reads what it has written itself
def test_loading_refuses_what_would_be_read_wrongly(tmp_path, tiny_model):
    from transformers import ModernBertConfig, ModernBertModel

    small = ModernBertConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
    )
    ModernBertModel(small).save_pretrained(tmp_path)
    load_encoder(str(tmp_path))
    facts = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for key in ("local_rope_theta", "global_rope_theta"):
        facts.pop(key)
    modern(tmp_path, sliding=160_000.0, **{k: v for k, v in facts.items() if "version" not in k})
    with pytest.raises(ConfigError, match="would be read wrongly"):
        load_encoder(str(tmp_path))


def test_loading_refuses_a_base_that_lacks_weights(tmp_path, tiny_model):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_model, tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if name.endswith("intermediate.dense.weight"))
    renamed = {name.replace("intermediate.dense", "up"): t for name, t in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="would be drawn at random") as caught:
        load_encoder(str(folder))
    assert gone.partition(".")[2] in caught.value.what or "intermediate.dense" in caught.value.what


def test_a_base_that_is_not_here_is_said_to_be_unchecked():
    look = look_at_base("someone/their-model-that-is-nowhere")
    assert look.folder is None
    assert "is not on this machine, so it was not checked" in look.notes[0]


def test_a_copy_has_the_same_fingerprint_and_other_weights_another(tmp_path, tiny_model):
    import shutil

    from contlearn.testing import write_tiny_model

    copy = shutil.copytree(tiny_model, tmp_path / "elsewhere")
    other = write_tiny_model(tmp_path / "other", seed=1)
    assert base_fingerprint(copy) == base_fingerprint(tiny_model)
    assert base_fingerprint(other) != base_fingerprint(tiny_model)
    assert base_fingerprint(tmp_path) is None
