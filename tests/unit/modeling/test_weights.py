"""A model's files cannot lead the loader to anything but safetensors of its own folder."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest

from contlearn.errors import ConfigError
from contlearn.modeling.base_models import load_encoder
from contlearn.modeling.weights import check_weights

INDEX = "model.safetensors.index.json"
NAMES = "only .safetensors files beside it are read."


class _Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def base(tiny_model, tmp_path):
    """A model whose weights are named by an index, and beside it what it must not reach."""
    folder = shutil.copytree(tiny_model, tmp_path / "base")
    (folder / "model.safetensors").rename(folder / "part-1.safetensors")
    shutil.copy(folder / "part-1.safetensors", tmp_path / "outside.safetensors")
    for place in (tmp_path, folder):
        (place / "trap.bin").write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    _index(folder, "part-1.safetensors")
    return folder


def _index(folder, *names):
    value = {"metadata": {}, "weight_map": {f"w{place}": name for place, name in enumerate(names)}}
    (folder / INDEX).write_text(json.dumps(value))


def test_an_index_of_plain_names_is_followed(base):
    from safetensors import safe_open

    with safe_open(base / "part-1.safetensors", "pt") as file:
        named = dict.fromkeys(file.keys(), "part-1.safetensors")
    (base / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": named}))
    assert load_encoder(str(base)).config.model_type == "bert"


@pytest.mark.parametrize(
    "name",
    [
        "trap.bin",
        "../trap.bin",
        "../outside.safetensors",
        "{tmp}/outside.safetensors",
        "below/../part-1.safetensors",
        "..\\outside.safetensors",
        "part-1.safetensors\0.bin",
        ["part-1.safetensors"],
        7,
    ],
)
def test_an_index_that_names_anything_else_is_refused_before_it_is_read(base, tmp_path, name):
    name = name.format(tmp=tmp_path) if isinstance(name, str) else name
    _index(base, "part-1.safetensors", name)
    with pytest.raises(ConfigError) as caught:
        load_encoder(str(base))
    assert caught.value.what.endswith(NAMES)
    assert caught.value.where == f"model.base in contlearn.toml ({INDEX}, weight_map)"
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "{tmp}/outside.safetensors", "trap.bin", 7]
)
def test_a_configuration_that_names_its_weights_elsewhere_is_refused(base, tmp_path, name):
    config = json.loads((base / "config.json").read_text())
    config["transformers_weights"] = name.format(tmp=tmp_path) if isinstance(name, str) else name
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as caught:
        load_encoder(str(base))
    assert caught.value.what.endswith(NAMES)


def test_a_part_that_is_a_link_is_refused(base, tmp_path):
    (base / "part-1.safetensors").unlink()
    (base / "part-1.safetensors").symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(ConfigError, match="has a link in the place of part-1.safetensors"):
        load_encoder(str(base))


def test_the_links_of_the_hub_s_own_cache_are_followed(base, tmp_path):
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    snapshot.parent.mkdir(parents=True)
    blobs.mkdir()
    shutil.move(base, snapshot)
    (snapshot / "part-1.safetensors").rename(blobs / "123")
    (snapshot / "part-1.safetensors").symlink_to("../../blobs/123")
    check_weights(str(snapshot), what="It")


def test_an_adapter_is_no_base_model_whatever_it_names(base, tmp_path):
    (base / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(tmp_path), "peft_type": "LORA"})
    )
    with pytest.raises(ConfigError, match="is an adapter"):
        load_encoder(str(base))


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"weight_map": []}'])
def test_an_index_that_is_none_is_refused_in_words(base, content):
    (base / INDEX).write_text(content)
    with pytest.raises(ConfigError, match=r"index without a map|is not JSON"):
        load_encoder(str(base))


def test_the_index_of_a_model_on_a_hub_is_looked_at_first(base, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(source, name):
        assert source == "somebody/model"
        if not (base / name).exists():
            raise LocalEntryNotFoundError("not there")
        return str(base / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    check_weights("somebody/model", what="It")
    _index(base, "../trap.bin")
    with pytest.raises(ConfigError, match="trap.bin"):
        check_weights("somebody/model", what="It")
