"""Word-level tokenizer: the captions' words, some synonyms, hashed buckets for the rest."""

from __future__ import annotations

import re
import zlib

from .palette import (
    BACKGROUND_COLOURS,
    EYE_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    MOUTHS,
    SHIRT_COLOURS,
    SKIN_TONES,
)

MAX_LENGTH = 32
PAD, START, END = 0, 1, 2
UNKNOWN_BUCKETS = 64

SYNONYMS = {
    "blond": "blonde",
    "gray": "grey",
    "silver": "grey",
    "ginger": "red",
    "pale": "light",
    "fair": "light",
    "smile": "smiling",
    "happy": "smiling",
    "hairs": "hair",
    "eye": "eyes",
    "backdrop": "background",
    "face": "portrait",
}


def _words() -> tuple[str, ...]:
    nouns = ("portrait", "hair", "skin", "eyes", "shirt", "background")
    tables = (
        HAIR_STYLES,
        HAIR_COLOURS,
        SKIN_TONES,
        EYE_COLOURS,
        MOUTHS,
        SHIRT_COLOURS,
        BACKGROUND_COLOURS,
    )
    words = [*nouns, *(word for table in tables for name in table for word in name.split())]
    return tuple(dict.fromkeys(words))


WORDS = _words()
FIRST_WORD = END + 1
FIRST_UNKNOWN = FIRST_WORD + len(WORDS)
VOCABULARY_SIZE = FIRST_UNKNOWN + UNKNOWN_BUCKETS
_ID = {word: FIRST_WORD + i for i, word in enumerate(WORDS)}


def word_id(word: str) -> int:
    """Token id of one lower-case word; unknown words share `UNKNOWN_BUCKETS` hashed ids."""
    known = _ID.get(SYNONYMS.get(word, word))
    return (
        known if known is not None else FIRST_UNKNOWN + zlib.crc32(word.encode()) % UNKNOWN_BUCKETS
    )


def word_ids(text: str) -> list[int]:
    """Token ids of a text without start, end and padding; punctuation is dropped."""
    return [word_id(word) for word in re.findall(r"[^\W_]+", text.lower())]


def padded_ids(text: str) -> list[int]:
    """Exactly `MAX_LENGTH` ids: start, words, end, padding. Longer texts are cut."""
    ids = [START, *word_ids(text)[: MAX_LENGTH - 2], END]
    return ids + [PAD] * (MAX_LENGTH - len(ids))


class WordTokenizer:
    """The part of the Hugging Face tokenizer protocol that ComfyUI's SDTokenizer uses."""

    @classmethod
    def from_pretrained(cls, _path: str, **_options: object) -> WordTokenizer:
        """Build the tokenizer; the vocabulary is in this module, nothing is read."""
        return cls()

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [START, *word_ids(text), END]}

    def get_vocab(self) -> dict[str, int]:
        """Every token id under a printable name."""
        unknown = {f"<unknown {i}>": FIRST_UNKNOWN + i for i in range(UNKNOWN_BUCKETS)}
        return {"<pad>": PAD, "<start>": START, "<end>": END, **_ID, **unknown}
