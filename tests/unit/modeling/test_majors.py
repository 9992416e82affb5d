"""What the two majors of transformers do differently is made alike; these run under both."""

import json

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from contlearn.errors import ConfigError
from contlearn.modeling import additions
from contlearn.modeling.base_check import check_saved_by, older_keys
from contlearn.modeling.base_models import load_tokenizer
from contlearn.modeling.majors import no_progress_bars, save_tokenizer, write_older_keys

TEXTS = [
    "Hello World, naïve café!",
    "ﬁne ＡＢＣ é",
    "  two  spaces\tand\nlines ",
    "東京 x 🙂",
    "[MASK] a",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_tokenizer(folder, *, normalizer, splitter, name="BertTokenizer", **config):
    """Write a WordPiece tokenizer whose file says more than its class does."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizer, splitter
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(TEXTS * 3, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True)
    made.save(str(folder / "tokenizer.json"))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": name, **dict(zip(names, SPECIAL, strict=True)), **config})
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return folder


def ids(tokenizer):
    return [tokenizer.encode(text).ids for text in TEXTS]


@pytest.mark.parametrize(
    ("normalizer", "splitter"),
    [
        (
            normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
            pre_tokenizers.Whitespace(),
        ),
        (normalizers.NFC(), pre_tokenizers.BertPreTokenizer()),
        (normalizers.BertNormalizer(lowercase=True), pre_tokenizers.WhitespaceSplit()),
    ],
)
def test_tokenizer_splits_as_its_file_says(tmp_path, normalizer, splitter):
    folder = write_tokenizer(tmp_path / "t", normalizer=normalizer, splitter=splitter)
    loaded = load_tokenizer(str(folder)).backend_tokenizer
    assert ids(loaded) == ids(Tokenizer.from_file(str(folder / "tokenizer.json")))


@pytest.mark.parametrize("switches", [{}, {"do_lower_case": False}, {"strip_accents": False}])
def test_switches_beside_the_file_hold_and_else_those_of_version_4(tmp_path, switches):
    folder = write_tokenizer(
        tmp_path / "t",
        normalizer=normalizers.BertNormalizer(lowercase=False),
        splitter=pre_tokenizers.BertPreTokenizer(),
        **switches,
    )
    expected = Tokenizer.from_file(str(folder / "tokenizer.json"))
    expected.normalizer = normalizers.BertNormalizer(
        lowercase=switches.get("do_lower_case", True), strip_accents=switches.get("strip_accents")
    )
    assert ids(load_tokenizer(str(folder)).backend_tokenizer) == ids(expected)


def test_saved_and_loaded_again_a_tokenizer_is_the_same(tmp_path):
    folder = write_tokenizer(
        tmp_path / "t",
        normalizer=normalizers.NFKC(),
        splitter=pre_tokenizers.Whitespace(),
        name="PreTrainedTokenizerFast",
        additional_special_tokens=["<user>"],
    )
    first = load_tokenizer(str(folder))
    save_tokenizer(first, tmp_path / "again")
    second = load_tokenizer(str(tmp_path / "again"))
    assert ids(second.backend_tokenizer) == ids(first.backend_tokenizer)
    asked = [item.backend_tokenizer.encode("a <user> b").tokens for item in (first, second)]
    assert asked[0] == asked[1]
    assert "<user>" in asked[0]
    facts = json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())
    assert facts["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert facts["additional_special_tokens"] == ["<user>"]
    assert not isinstance(facts.get("extra_special_tokens"), list)  # version 4 fails at it


def test_numbers_that_moved_are_written_at_their_old_places_too(tmp_path):
    rope = {
        "full_attention": {"rope_type": "default", "rope_theta": 5000},
        "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
    }
    facts = {"model_type": "modernbert", "rope_parameters": rope, "transformers_version": "5.1.0"}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="would be read wrongly"):
        check_saved_by(tmp_path, installed="4.57.6")
    write_older_keys(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written == {**facts, "global_rope_theta": 5000.0, "local_rope_theta": 300.0}
    (note,) = check_saved_by(tmp_path, installed="4.57.6")
    assert "was saved by transformers 5.1.0" in note


def test_numbers_of_one_kind_of_layers_keep_their_names():
    rope = {"rope_type": "default", "rope_theta": 1e5, "partial_rotary_factor": 0.5}
    assert older_keys({"model_type": "other", "rope_parameters": rope}) == {
        "rope_theta": 1e5,
        "partial_rotary_factor": 0.5,
    }
    assert older_keys({"model_type": "bert"}) == {}


@pytest.mark.parametrize("positions", ["relative_key", "relative_key_query"])
def test_version_5_refuses_positions_it_has_given_up(tmp_path, positions):
    facts = {"model_type": "bert", "position_embedding_type": positions}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="which transformers 5.24.0 has given up") as caught:
        check_saved_by(tmp_path, installed="5.24.0")
    assert "4.57" in caught.value.hint
    assert check_saved_by(tmp_path, installed="4.57.6") == ()


@pytest.mark.parametrize(
    ("installed", "said", "hint"),
    [
        ("5.24.0", "does not work with transformers 5.24.0", "contlearn[train]"),
        ("4.57.6", "cannot be imported", "pip install 'adapters>=1.3,<1.4'"),
    ],
)
def test_bottleneck_adapters_that_cannot_be_had_are_told(monkeypatch, installed, said, hint):
    import sys

    monkeypatch.setitem(sys.modules, "adapters", None)
    monkeypatch.setattr(additions, "transformers_version", lambda: installed)
    with pytest.raises(ConfigError, match=said) as caught:
        additions.Bottlenecked(None, {"architecture": "seq"})
    assert hint in caught.value.hint
    assert "lora" in caught.value.hint


def test_progress_bars_are_left_as_they_were():
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    with no_progress_bars():
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled() == before
