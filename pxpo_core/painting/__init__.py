"""Painted feedback: what the paint widget saves, and how it becomes a reward again."""

from .batch import PaintFolder, ShownPicture
from .binding import bind
from .marks import Mark, Marks, MarksInvalid, read_marks
from .pruning import prune
from .reward import Feedback, painted_feedback, were_shown
from .signed_png import MapInvalid, decode_map, encode_map
from .waiting import Answer, wait_for_answer

__all__ = [
    "Answer",
    "Feedback",
    "MapInvalid",
    "Mark",
    "Marks",
    "MarksInvalid",
    "PaintFolder",
    "ShownPicture",
    "bind",
    "decode_map",
    "encode_map",
    "painted_feedback",
    "prune",
    "read_marks",
    "wait_for_answer",
    "were_shown",
]
