from __future__ import annotations

import unicodedata

import pytest

from contlearn.tasks.words import language_of, words_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is my parcel and what can I do?", "english"),
        ("Ich habe das Paket nicht erhalten", "german"),
        ("Je ne suis pas content du service", "french"),
        ("¿Dónde está el paquete que compré para mi madre?", "spanish"),
        ("parcel", "latin"),
        ("Где моя посылка?", "cyrillic"),
        ("我的包裹在哪里", "chinese"),
        ("荷物はどこですか", "japanese"),
        ("내 소포는 어디에 있나요", "korean"),
        ("أين طردي", "arabic"),
        ("12345 !!!", "none"),
        ("", "none"),
    ],
)
def test_languages_and_scripts_are_guessed(text, language):
    assert language_of(text) == language


def test_words_are_lower_case_without_numbers_and_chinese_goes_by_character():
    assert words_of("Don't PAY 20 euros; naïve café") == ["don't", "pay", "euros", "naïve", "café"]
    assert words_of("退款 refund") == ["退", "款", "refund"]


def test_words_keep_their_accents_and_vowel_signs():
    assert words_of("हिन्दी में किताब") == ["हिन्दी", "में", "किताब"]
    assert words_of("مُحَمَّد يعيش") == ["مُحَمَّد", "يعيش"]
    assert words_of("cafe\u0301 noir") == words_of("café noir") == ["café", "noir"]
    assert words_of("\ufeffanna re\u00adfund ❤️") == ["anna", "refund"]


def test_language_does_not_hang_on_how_accents_are_written():
    text = "você é"
    assert language_of(text) == language_of(unicodedata.normalize("NFD", text)) == "portuguese"
