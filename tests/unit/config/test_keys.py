"""Every key explains itself, and is found by its name."""

import re

import pytest

from contlearn.config import Config
from contlearn.config.keys import all_keys, explain, keys_of, parts
from contlearn.errors import ConfigError

KEYS = {key.path: key for key in all_keys()}


@pytest.mark.parametrize("path", KEYS)
def test_key_has_a_description_that_is_a_sentence(path):
    description = KEYS[path].description
    assert len(description) >= 15, path
    assert description[0].isupper(), path
    assert description.endswith((".", "…)")), path


def test_description_names_the_unit_where_the_key_has_one():
    for path, key in KEYS.items():
        says = key.description.lower()
        if path.endswith("_seconds"):
            assert "second" in says, path
        if path.endswith("_bytes"):
            assert "byte" in says or re.search(r"\d[gm]b", says), path
        if "90s" in key.type:
            assert re.search(r"second|\d[smhd]\b", says), path
        if path.endswith(("_ratio", "_share")) and "below 1" in key.bounds:
            assert "share" in says, path


def test_each_section_and_each_key_is_there_once():
    names = [part.name for part in parts()]
    assert len(set(names)) == len(names)
    assert set(Config.model_fields) <= set(names)
    assert len(KEYS) == sum(len(part.keys) for part in parts())


def test_key_is_found_by_path_section_brackets_and_last_part():
    assert explain("gate.margin")[1] == (KEYS["gate.margin"],)
    assert explain("[replay]")[0].name == "replay"
    assert explain("capacity_records")[1] == (KEYS["replay.capacity_records"],)
    assert explain("data.limits")[0].keys[0].path == "data.limits.line_bytes"
    assert explain("sources")[0].repeats


def test_unknown_key_names_near_ones_and_a_shared_one_its_sections():
    with pytest.raises(ConfigError) as caught:
        explain("training.epoch")
    assert "training.epochs" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        explain("threads")
    assert "training.threads" in caught.value.hint
    assert "serving.threads" in caught.value.hint
    with pytest.raises(ConfigError, match="There is no key 'xyzzy'"):
        explain("xyzzy")


def test_types_bounds_and_defaults_are_said_in_words():
    assert KEYS["update.max_wait"].type == "seconds, or 90s, 5m, 1h, 7d"
    assert KEYS["retention.workspace_bytes"].type == "bytes, or 500MB, 2GB"
    assert KEYS["serving.canary_version"].type == 'whole number or "challenger"'
    assert KEYS["gate.confidence"].bounds == "above 0.5, below 1"
    assert KEYS["gate.short_evidence"].default == '"chance"'
    assert KEYS["sources.name"].default is None


def test_keys_of_follows_lists_and_ends_at_plain_values():
    assert "revision" in keys_of(["sources", "0"])
    assert keys_of(["training", "epochs"]) == []
