"""Who wrote into an array after it was recorded.

A graph keeps arrays, not copies of them. One that is overwritten before backward would give a wrong gradient, so the
walk asks here. Nodes and writes take their numbers from one rising counter, which says what came first.

Writes through the Tensor API are noted. Those of NumPy code cannot be, so what it may write into is compared:

- arrays that NumPy code holds when an operation keeps them (arrays given as arguments, tensors that want no gradient,
  leaves whose `.data` was taken) are copied then, if small, or else in samples, and the walk compares;
- an array that is handed out later, by `.data`, is copied so at that moment.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .errors import GraphError, describe

if TYPE_CHECKING:
    from .graph import Node  # for annotations only
    from .lines import Line

next_order = itertools.count().__next__  # atomic in CPython, so threads may record at the same time


WHOLE = 65536  # bytes: of larger arrays samples are compared
SAMPLES = 257  # so that less than 1/256 of the array is between two of them
_PIECE = np.dtype("V64")  # one sample: a line of the cache


def contents(array: np.ndarray[Any, Any], exact: bool = False) -> bytes:
    """All of a small array; of a larger one, unless `exact`, evenly spaced pieces."""
    if exact or array.nbytes <= WHOLE:
        return array.tobytes()
    if not array.flags.forc:
        return _grid(array).tobytes()
    step = (array.nbytes - _PIECE.itemsize) // (SAMPLES - 1)
    pieces: Any = np.ndarray((SAMPLES,), _PIECE, array.T if array.flags.fnc else array, 0, (step,))
    return pieces.tobytes()  # type: ignore[no-any-return]


def _grid(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Elements evenly spaced along all axes."""
    while array.nbytes > WHOLE:
        axis = max(range(array.ndim), key=array.shape.__getitem__)
        array = array[(slice(None),) * axis + (slice(None, None, 2),)]
    return array


# What was in an array that a node kept: where it keeps that (which argument, or parameter), the array, its contents.
Print = list[tuple[int | str, np.ndarray[Any, Any], bytes]]


class Stamp:
    """The last write into some memory: its number, what wrote, and a reference that removes the entry."""

    __slots__ = ("order", "writer", "alive")

    def __init__(self, order: int, writer: str, alive: weakref.ref[Any]) -> None:
        self.order, self.writer, self.alive = order, writer, alive


class Loan(NamedTuple):
    """Memory that was handed out: when and where, what was in it, and a reference that removes the entry."""

    order: int
    line: Line
    contents: bytes
    alive: weakref.ref[Any]


class Writes:
    """The writes that are known of, by the array that owns the memory.

    A write takes the next number. A node made before, that kept that memory, would give a wrong gradient: the walk
    refuses. Nodes made after the last write, the usual case, cost one comparison.
    """

    def __init__(self) -> None:
        self.last = -1
        self._stamps: dict[int, Stamp] = {}
        self._loans: dict[int, Loan] = {}
        self._lock = Lock()  # `last` must never go back, whichever thread writes

    def note(self, array: np.ndarray[Any, Any], writer: str, line: Line | None = None) -> None:
        """`writer` has just changed `array`."""
        self.note_all((array,), writer if line is None else f"{writer} ({line})")

    def note_all(self, arrays: Iterable[np.ndarray[Any, Any]], writer: str) -> None:
        """`writer` has just changed `arrays`."""
        with self._lock:
            order = self.last = next_order()
        for array in arrays:
            held_by = array if array.base is None else owner(array)
            known = self._stamps.get(id(held_by))  # of this very array: the entry of one that is gone went with it
            if known is None:
                self._stamp(held_by, order, writer)
            else:
                known.order, known.writer = order, writer

    def _stamp(self, held_by: np.ndarray[Any, Any], order: int, writer: str) -> None:
        key = id(held_by)
        self._stamps[key] = Stamp(order, writer, weakref.ref(held_by, lambda _: self._stamps.pop(key, None)))

    def lend(self, array: np.ndarray[Any, Any], line: Line) -> None:
        """NumPy code gets hold of `array`, and may write into it from now on."""
        held_by = owner(array)
        key = id(held_by)
        known, now = self._loans.get(key), contents(held_by)
        with self._lock:
            order = self.last = next_order()
        if known is not None and known.contents != now:  # written since: too late for what was recorded before `known`
            stamp = self._stamps.get(key)
            if stamp is None or stamp.order < known.order:
                self._stamp(held_by, known.order, _through_loan(known))
        alive = known.alive if known else weakref.ref(held_by, lambda _: self._loans.pop(key, None))
        self._loans[key] = Loan(order, line, now, alive)

    def check(self, node: Node) -> None:
        """Raise if something that `node` kept has been written since."""
        for what, kept in kept_by(node):
            self.refuse(kept, node.order, node.name, what)

    def refuse(self, kept: Any, order: int, name: str, what: str) -> None:
        """Raise if `kept`, which is `what` to the operation `name` recorded at `order`, has been written since."""
        if isinstance(kept, np.ndarray):
            held_by = owner(kept)
            stamp = self._stamps.get(id(held_by))
            if stamp is not None and stamp.order > order:
                raise overwritten(name, what, kept, stamp.writer)
            loan = self._loans.get(id(held_by))
            if loan is not None and loan.order > order and loan.contents != contents(held_by):
                raise overwritten(name, what, kept, _through_loan(loan))

    def compare(self, node: Node, found: Print) -> None:
        """Raise if something that `node` kept is not what it was when it was recorded."""
        for where, kept, before in found:
            if before != contents(kept, len(before) == kept.nbytes):
                self.check(node)  # knows more, if it was written through the Tensor API
                what = "its result" if where == 0 else f"its argument {where}" if type(where) is int else f"its {where}"
                raise overwritten(node.name, what, kept, "NumPy code")


def _through_loan(loan: Loan) -> str:
    return f"NumPy code, through the array taken by .data at {loan.line},"


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
        + ("" if " at " in name else " (Under tg.autograd.record_lines() this names the line that ran it, too.)")
    )


writes = Writes()
