"""Who wrote into an array after it was recorded.

A graph keeps arrays, not copies of them. One that is overwritten before backward would give a wrong gradient, so the
walk asks here. Nodes and writes take their numbers from one rising counter, which says what came first.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import GraphError, describe

if TYPE_CHECKING:
    from .graph import Node  # for annotations only
    from .lines import Line

next_order = itertools.count().__next__  # atomic in CPython, so threads may record at the same time


class Writes:
    """The writes that went through the Tensor API.

    A write takes the next number and notes it for the memory it changed. A node made before, that kept that memory,
    would give a wrong gradient: the walk refuses. Nodes made after the last write, the usual case, cost one comparison.
    """

    def __init__(self) -> None:
        self.last = -1
        self._stamps: dict[int, tuple[int, str, weakref.ref[Any]]] = {}

    def note(self, array: np.ndarray[Any, Any], writer: str, line: Line | None = None) -> None:
        """`writer` has just changed `array`."""
        held_by = array if array.base is None else owner(array)
        key = id(held_by)
        self.last = next_order()
        known = self._stamps.get(key)  # of this very array: the entry of one that is gone went with it
        alive = known[2] if known else weakref.ref(held_by, lambda _: self._stamps.pop(key, None))
        self._stamps[key] = (self.last, writer if line is None else f"{writer} ({line})", alive)

    def check(self, node: Node) -> None:
        """Raise if something that `node` kept has been written since."""
        for what, kept in kept_by(node):
            stamp = self._stamps.get(id(owner(kept)))
            if stamp is not None and stamp[0] > node.order:
                raise overwritten(node.name, what, kept, stamp[1])

    def refuse(self, kept: Any, order: int, name: str, what: str) -> None:
        """Raise if `kept`, which is `what` to the operation `name` recorded at `order`, has been written since."""
        if isinstance(kept, np.ndarray):
            stamp = self._stamps.get(id(owner(kept)))
            if stamp is not None and stamp[0] > order:
                raise overwritten(name, what, kept, stamp[1])


def owner(array: Any) -> Any:
    """The array that owns the memory `array` looks into."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def kept_by(node: Node) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The arrays that a node keeps for its rules, and what they are to its operation."""
    for i, kept in enumerate(node.saved or ()):
        if isinstance(kept, np.ndarray):
            yield f"its argument {i}" if i else "its result", kept
    for name, value in node.params.items():
        for kept in value if isinstance(value, tuple) else (value,):
            if isinstance(kept, np.ndarray):
                yield f"its {name}", kept


def overwritten(name: str, what: str, kept: np.ndarray[Any, Any], writer: str) -> GraphError:
    """The error for the operation `name` whose rules need `kept`, which `writer` has changed."""
    return GraphError(
        f"backward of {name} needs {what}, {describe(kept)}, but {writer} wrote into that array after the operation "
        "ran: the gradient would be wrong. Write into a copy, or call backward first."
    )


writes = Writes()
