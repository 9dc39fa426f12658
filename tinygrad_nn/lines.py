"""Which line of the user's program is running."""

from __future__ import annotations

import sys
from typing import NamedTuple


class Line(NamedTuple):
    """A line of a program; as text `file.py:12`, which editors and terminals turn into a link.

    What the derivative of an operation computes has the line of that operation, and says so in `within`.
    """

    file: str
    number: int
    within: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.number}{self.within}"


def user_line() -> Line:
    """The innermost line outside this package that is running."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(__package__ + "."):
        frame = frame.f_back
    return Line(frame.f_code.co_filename, frame.f_lineno)
