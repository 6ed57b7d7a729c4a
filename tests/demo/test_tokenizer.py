"""The word tokenizer."""

from __future__ import annotations

from demo.toy_faces.tokenizer import (
    END,
    FIRST_UNKNOWN,
    MAX_LENGTH,
    PAD,
    START,
    VOCABULARY_SIZE,
    WordTokenizer,
    padded_ids,
    word_id,
    word_ids,
)


def test_known_words_have_their_own_ids() -> None:
    ids = word_ids("portrait, long red hair, dark skin, green background")
    assert len(set(ids)) == 8
    assert all(END < i < FIRST_UNKNOWN for i in ids)


def test_case_punctuation_and_synonyms_do_not_matter() -> None:
    assert word_ids("Red HAIR!") == word_ids("red hair")
    assert word_ids("blond hair, gray_background") == word_ids("blonde hair grey background")


def test_unknown_words_fall_into_stable_buckets() -> None:
    assert word_id("masterpiece") == word_id("masterpiece")
    assert FIRST_UNKNOWN <= word_id("masterpiece") < VOCABULARY_SIZE
    assert FIRST_UNKNOWN <= word_id("größe") < VOCABULARY_SIZE


def test_padded_ids_have_a_fixed_length() -> None:
    assert padded_ids("") == [START, END] + [PAD] * (MAX_LENGTH - 2)
    long = padded_ids("red " * 100)
    assert len(long) == MAX_LENGTH
    assert long[-1] == END


def test_vocabulary_names_every_id_once() -> None:
    vocabulary = WordTokenizer.from_pretrained("").get_vocab()
    assert sorted(vocabulary.values()) == list(range(VOCABULARY_SIZE))
    assert WordTokenizer()("red hair")["input_ids"][0] == START
