"""Long texts are tokenised as far as they are read; what is read is as if all had been."""

from __future__ import annotations

import random

import pytest

from contlearn.tasks import beginnings
from contlearn.tasks.text_classification import TextClassification
from contlearn.tasks.token_classification import TokenClassification
from tests.unit.tasks.test_marks import TOKENIZERS

ALPHABETS = (
    "abcdefghij",
    "äöüßéñçœ",
    "e\u0301a\u0308\ufe0f\u200d\u200b\ufeff",
    "日本語中文字한국어",
    "😀❤️👍🏽",
    "0123456789.,;:!?-'\"()",
    "\u00a0\u2003\u3000",
)


class Counting:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.characters = 0

    def encode_batch(self, batch, **options):
        self.characters += sum(
            len(text) if isinstance(text, str) else sum(map(len, text)) for text in batch
        )
        return self.tokenizer.encode_batch(batch, **options)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)


def long_text(generator):
    words = []
    for _ in range(generator.randrange(200, 3_000)):
        letters = generator.choice(ALPHABETS)
        words.append("".join(generator.choices(letters, k=generator.randrange(1, 9))))
        words.append(generator.choice([" ", " ", " ", "  ", "\n", "\t", "\u00a0", ""]))
    return "".join(words)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("limit", [8, 64])
@pytest.mark.parametrize(
    "task", [TextClassification(), TokenClassification()], ids=["text", "words"]
)
def test_what_is_read_of_a_long_text_is_what_it_would_be_of_the_whole(
    name, limit, task, monkeypatch
):
    generator = random.Random(7)
    inputs = [{"text": long_text(generator)} for _ in range(30)]
    found = task.encode(TOKENIZERS[name], inputs, limit)
    monkeypatch.setattr(beginnings, "_MARGIN_TOKENS", 10_000_000)
    assert found == task.encode(TOKENIZERS[name], inputs, limit)
    assert all(encoding.truncated for (encoding,) in found)


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize(
    "task", [TextClassification(), TokenClassification()], ids=["text", "words"]
)
def test_a_long_text_costs_what_is_read_of_it(name, task):
    counting = Counting(TOKENIZERS[name])
    ((encoding,),) = task.encode(counting, [{"text": "where is my parcel " * 50_000}], 16)
    assert len(encoding.input_ids) == 16
    assert encoding.truncated
    assert counting.characters < 2_000


def test_more_is_taken_of_a_text_whose_characters_make_few_pieces():
    tokenizer = TOKENIZERS["word_piece"]
    text = ("\ufe0f" * 50 + " ") * 400 + "anna lives in rome"
    ((encoding,),) = TextClassification().encode(tokenizer, [{"text": text}], 32)
    ((whole,),) = TextClassification().encode(tokenizer, [{"text": "anna lives in rome"}], 32)
    assert encoding == whole
    assert not encoding.truncated


def test_words_behind_the_first_that_is_cut_are_cut_whatever_pieces_they_would_have():
    words = ("a", "\ufe0f", "l", "i", "r", "\ufe0f", "t")
    ((encoding,),) = TokenClassification().encode(TOKENIZERS["word_piece"], [{"tokens": words}], 4)
    assert encoding.lost_words == (1,)
    assert encoding.cut_words == (3, 4, 5, 6)
    assert encoding.words == (0, 2)
