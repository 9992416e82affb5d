"""Words with marks, signs and format characters: each stands in one encoding, or is reported."""

from __future__ import annotations

import itertools
import string
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from contlearn.tasks.spans import split_words, tags_from_spans
from contlearn.tasks.token_classification import TokenClassification
from contlearn.types import Calibration, LabelSpace

TASK = TokenClassification()
SPACE = LabelSpace(("O", "B-x", "I-x"))
# A few words in each of ten scripts, as people type them.
SCRIPTS = {
    "latin": ["where", "café", "naïve", "l’été"],
    "greek": ["πού", "είναι", "το", "δέμα"],
    "cyrillic": ["где", "моя", "посылка", "ёлка"],
    "arabic": ["أين", "مُحَمَّد", "طَرْد", "می‌خواهم"],
    "hebrew": ["אֵיפֹה", "הַחֲבִילָה", "שלום"],
    "devanagari": ["हिन्दी", "में", "किताब", "क्‍ष"],
    "bengali": ["আমার", "পার্সেল", "কোথায়"],
    "tamil": ["என்", "பொதி", "எங்கே"],
    "thai": ["ที่นี่", "พัสดุ", "อยู่"],
    "han": ["包裹", "在哪里", "東京"],
}
MARKS = ["\u0301", "\u0323", "\u064e", "\u0651", "\u093f", "\u0e35", "\u05b8", "\u3099"]
FORMATS = ["\ufeff", "\u200b", "\u200c", "\u200d", "\u2060", "\u200f", "\u00ad", "\u061c"]
SIGNS = ["❤️", "🙂", "👍🏽", "👨‍👩‍👧", "1️⃣", "\ufe0f", "\ue001", "\ufffd", "!", ","]


def word_piece() -> Tokenizer:
    """BERT's: what it does not know is [UNK], and its normaliser deletes accents and formats."""
    letters = sorted({c for words in SCRIPTS.values() for word in words for c in word[:2]})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase]
    pieces += [*("##" + letter for letter in string.ascii_lowercase), *letters, "!"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def byte_level() -> Tokenizer:
    """RoBERTa's: bytes, so that nothing is unknown."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([" ".join(SCRIPTS["latin"])] * 3, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


def unigram() -> Tokenizer:
    """XLM-R's: SentencePiece with <unk>, NFKC and a mark for blanks."""
    letters = sorted({c for words in SCRIPTS.values() for word in words for c in word})
    scores = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    scores += [(letter, -3.0) for letter in letters]
    made = Tokenizer(models.Unigram(scores, unk_id=3))
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


TOKENIZERS = {make.__name__: make() for make in (word_piece, byte_level, unigram)}
each_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


def words_of(text: str) -> list[str]:
    return [text[a:b] for a, b in split_words(text)]


def decoded(tokenizer: Tokenizer, inputs: dict, *, limit: int = 64, every: int = 1):
    """Let a model that calls each word it reads an entity of its own answer."""
    ((encoding,),) = TASK.encode(tokenizer, [inputs], limit)
    logits = np.zeros((len(encoding.word_starts), 3))
    logits[:, every] = 9.0
    return TASK.decode([{"logits": logits}], (encoding,), inputs, SPACE, Calibration())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("anna ❤️ lives in rome", ["anna", "❤️", "lives", "in", "rome"]),
        ("\ufeffanna lives", ["\ufeffanna", "lives"]),
        ("cafe\u0301's l’e\u0301te\u0301", ["cafe\u0301's", "l’e\u0301te\u0301"]),
        ("हिन्दी में किताब", ["हिन्दी", "में", "किताब"]),
        ("مُحَمَّد يعيش", ["مُحَمَّد", "يعيش"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("👨‍👩‍👧 👍🏽1️⃣", ["👨‍👩‍👧", "👍🏽", "1️⃣"]),
        ("ro\u200bme now\u200b", ["ro\u200b", "me", "now\u200b"]),
        ("in \ufe0f rome", ["in", "\ufe0f", "rome"]),
        ("don't, stop", ["don't", ",", "stop"]),
    ],
)
def test_marks_belong_to_their_word(text, words):
    assert words_of(text) == words


@each_tokenizer
@pytest.mark.parametrize("odd", ["❤️", "\ufe0f", "\ufeff", "\u200b", "\u0301", "\u200d", "\ue001"])
def test_only_a_word_without_pieces_is_outside(name, odd):
    tokens = ("anna", odd, "lives", "in", "rome")
    for inputs in ({"tokens": tokens}, {"text": " ".join(tokens)}):
        prediction = decoded(TOKENIZERS[name], inputs)
        assert len(prediction.target) == 5
        assert [prediction.target[i] for i in (0, 2, 3, 4)] == ["B-x"] * 4
        said = [(u["start"], u["end"], u["reason"]) for u in prediction.value.get("unread", ())]
        lost = [] if prediction.target[1] == "B-x" else [(5, 5 + len(odd), "no-pieces")]
        assert said == lost


def test_a_word_that_the_normaliser_deletes_costs_no_other_word_its_label():
    tokens = ("anna", "\ufe0f", "lives", "in", "rome")
    ((encoding,),) = TASK.encode(TOKENIZERS["word_piece"], [{"tokens": tokens}], 64)
    target = ("B-x", "O", "O", "O", "B-x")
    assert TASK.learn(target, (encoding,), SPACE) == (1, 0, 0, 1)


def test_the_first_word_that_is_read_begins_an_entity():
    tokens = ("\ufeff", "new", "york", "\ufe0f", "city")
    ((encoding,),) = TASK.encode(TOKENIZERS["word_piece"], [{"tokens": tokens}], 64)
    assert TASK.learn(("B-x", "I-x", "I-x", "I-x", "I-x"), (encoding,), SPACE) == (1, 2, 2)
    prediction = decoded(TOKENIZERS["word_piece"], {"tokens": ("new", "\ufe0f", "york")})
    assert prediction.target == ("B-x", "O", "B-x")


def test_an_entity_that_goes_on_behind_a_word_without_pieces_begins_there_again():
    inputs = {"tokens": ("new", "\ufe0f", "york")}
    ((encoding,),) = TASK.encode(TOKENIZERS["word_piece"], [inputs], 64)
    logits = np.array([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    prediction = TASK.decode([{"logits": logits}], (encoding,), inputs, SPACE, Calibration())
    assert prediction.target == ("B-x", "O", "B-x")
    assert [(e["start"], e["end"]) for e in prediction.value["entities"]] == [(0, 3), (6, 10)]


def test_accents_of_either_form_are_the_same_entity():
    for form in ("NFC", "NFD"):
        text = unicodedata.normalize(form, "café noir à paris")
        prediction = decoded(TOKENIZERS["word_piece"], {"text": text})
        found = [unicodedata.normalize("NFC", e["text"]) for e in prediction.value["entities"]]
        assert found == ["café", "noir", "à", "paris"]


def test_what_is_beyond_the_limit_is_reported_as_one_run():
    prediction = decoded(TOKENIZERS["word_piece"], {"text": "a b c d e f g"}, limit=6)
    assert prediction.target == ("B-x",) * 4 + ("O",) * 3
    assert prediction.value["unread"] == [{"start": 8, "end": 13, "reason": "cut"}]
    assert "unread" not in decoded(TOKENIZERS["word_piece"], {"text": "a b"}).to_json()


pieces = st.one_of(
    st.sampled_from([word for words in SCRIPTS.values() for word in words]),
    st.sampled_from([unicodedata.normalize("NFD", w) for ws in SCRIPTS.values() for w in ws]),
    st.sampled_from([*MARKS, *FORMATS, *SIGNS, " ", " ", "'"]),
)
texts = st.lists(pieces, min_size=1, max_size=14).map("".join).filter(str.strip)
tokens = st.lists(st.lists(pieces, min_size=1, max_size=3).map("".join), min_size=1, max_size=10)


@each_tokenizer
@settings(deadline=None, max_examples=150)
@given(
    inputs=texts.map(lambda text: {"text": text}) | tokens.map(lambda t: {"tokens": tuple(t)}),
    limit=st.sampled_from([8, 16, 200]),
)
def test_every_word_stands_in_one_encoding_or_is_reported(name, inputs, limit):
    tokenizer = TOKENIZERS[name]
    count = len(inputs["tokens"]) if "tokens" in inputs else len(split_words(inputs["text"]))
    encodings = TASK.encode(tokenizer, [inputs], limit)[0]
    everywhere = [word for e in encodings for word in (*e.words, *e.lost_words, *e.cut_words)]
    assert sorted(everywhere) == list(range(count))
    for encoding in encodings:
        assert len(encoding.words) == len(encoding.word_starts)
        assert list(encoding.word_starts) == sorted(set(encoding.word_starts))
        assert all(0 <= at < len(encoding.input_ids) for at in encoding.word_starts)
        assert bool(encoding.cut_words) <= encoding.truncated
    prediction = decoded(tokenizer, inputs, limit=limit)
    read = {word for encoding in encodings for word in encoding.words}
    assert [tag != "O" for tag in prediction.target] == [w in read for w in range(count)]
    lost = {word for encoding in encodings for word in encoding.lost_words}
    assert len(
        [u for u in prediction.value.get("unread", ()) if u["reason"] == "no-pieces"]
    ) == len(lost)
    if "text" in inputs:
        # What is answered can be sent back as the right answer.
        spans = prediction.to_json()["entities"]
        assert tags_from_spans(inputs, spans) == list(prediction.target)


@settings(deadline=None, max_examples=150)
@given(texts)
def test_words_lie_apart_and_leave_out_nothing_but_blanks(text):
    places = split_words(text)
    assert all(a < b for a, b in places)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
    inside = {i for a, b in places for i in range(a, b)}
    assert {i for i, letter in enumerate(text) if not letter.isspace()} <= inside
    for start, _ in places:
        # A mark begins a word only where there is none before it that it could belong to.
        if unicodedata.category(text[start])[0] == "M" and start:
            assert text[start - 1].isspace() or start - 1 not in inside


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=("M", "Cf", "Cs", "Sk")), max_size=40))
def test_texts_without_marks_have_the_words_they_always_had(text):
    import re

    always = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
    assert split_words(text) == [found.span() for found in always.finditer(text)]
