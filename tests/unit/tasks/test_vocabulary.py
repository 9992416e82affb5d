"""The unknown piece is the tokenizer's own, whatever it is called; some have none."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from contlearn.tasks.vocabulary import unknown_piece

BYTES = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}


def split_by_words(model) -> Tokenizer:
    made = Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def byte_level(**options) -> Tokenizer:
    made = Tokenizer(models.BPE({**BYTES, "<unk>": 256}, [], **options))
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    return made


def unigram(**options) -> Tokenizer:
    pieces = [("<s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("b", -1.0)]
    pieces += [(f"<0x{byte:02X}>", -5.0) for byte in range(256)] if options else []
    made = Tokenizer(models.Unigram(pieces, unk_id=1, **options))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


NAMED = {
    "word-piece": split_by_words(models.WordPiece({"[unk]": 0, "a": 1}, unk_token="[unk]")),
    "words": split_by_words(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>")),
    "letters": split_by_words(models.BPE({"a": 0, "<unk>": 1}, [], unk_token="<unk>")),
    "unigram": unigram(),
}
# Each lists <unk>, and gives it never.
NEVER = {
    "byte-level": byte_level(),
    "byte-level-with-a-name": byte_level(unk_token="<unk>"),
    "unigram-with-bytes": unigram(byte_fallback=True),
}


@pytest.mark.parametrize("name", NAMED)
def test_pieces_are_counted_by_the_tokenizers_own_name(name):
    tokenizer = NAMED[name]
    ((text,),) = TextClassification().encode(tokenizer, [{"text": "a 東京 a"}], 32)
    ((words,),) = TokenClassification().encode(tokenizer, [{"tokens": ("a", "東", "a")}], 32)
    assert text.unknown_pieces >= 1
    assert words.unknown_pieces >= 1


@pytest.mark.parametrize("name", NEVER)
def test_a_tokenizer_that_spells_bytes_cannot_have_unknown_pieces(name):
    tokenizer = NEVER[name]
    ((text,),) = TextClassification().encode(tokenizer, [{"text": "a 東京 🙂"}], 64)
    assert text.unknown_pieces == 0
    assert unknown_piece(tokenizer) is None


@pytest.mark.parametrize("name", NAMED)
def test_the_unknown_piece_is_named(name):
    assert unknown_piece(NAMED[name]) in ("[unk]", "<unk>")


def test_a_byte_level_tokenizer_that_lacks_a_byte_can_have_them():
    vocabulary = {letter: i for letter, i in BYTES.items() if letter != "a"}
    made = Tokenizer(models.BPE({**vocabulary, "<unk>": 256}, [], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    ((text,),) = TextClassification().encode(made, [{"text": "a b"}], 64)
    assert text.unknown_pieces == 1
    assert unknown_piece(made) == "<unk>"
