"""Gradients exactly at a kink: `kinks` shows where one was taken, `kink_slopes` chooses what it is.

Where a function has a kink (relu at 0), a tie (the larger of two equals) or a jump there is no single right slope. Each
operation declares which one it takes, and where its kinks are. Nothing is looked for unless someone looks on: the
places are found when an operation is recorded, and counted when a gradient comes by that is not 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from .errors import ArgumentError, KinkError
from .lines import Line
from .modes import Inspector, in_walk
from .ops.elementwise import where
from .registry import OPS, Op, Rule
from .strong_zero import values

SHOWN = 3  # of the elements at a kink, so many are named

_met: ContextVar[tuple[Any, set[tuple[int, int]]]] = ContextVar("tinygrad_nn_kinks_met")  # a walk, and where it was


@dataclass(frozen=True, slots=True)
class Kink:
    """Gradients that were taken exactly at a kink of one operation, run by one line of the program."""

    operation: str
    line: Line
    count: int  # of elements, over all walks
    elements: tuple[tuple[int, ...], ...]  # the indices of the first few
    convention: str


class kinks(Inspector):
    """Inside, gradients that are taken exactly at a kink, a tie or a jump are collected, or with `"error"` refused.

    The object is its own report: a table as text, or one `Kink` after another, the most frequent first. Counted are
    elements whose gradient is not 0. Forward pass and backward pass must both be inside. Also a decorator.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor([0.0, -1.0, 0.0], requires_grad=True)
    >>> with tg.autograd.kinks("report") as report:
    ...     tg.relu(x).sum().backward()
    >>> [(kink.operation, kink.count, kink.elements, kink.convention) for kink in report]
    [('relu', 2, ((0,), (2,)), 'slope 0 at 0')]

    With `"error"`, `backward` raises a `KinkError` that names operation, line and elements.
    """

    def __init__(self, action: Literal["report", "error"] = "report") -> None:
        if action not in ("report", "error"):
            raise ArgumentError(f"kinks: the action is 'report' or 'error', not {action!r}")
        self._action = action
        self._found: dict[tuple[str, Line], Kink] = {}

    # -- the report ----------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Kink]:
        return iter(sorted(self._found.values(), key=lambda kink: -kink.count))

    def __len__(self) -> int:
        return len(self._found)

    def __str__(self) -> str:
        if not self._found:
            return "no gradient was taken at a kink"
        rows = [("operation", "line", "count", "elements", "convention")]
        for kink in self:
            shown = ", ".join(str(list(index)) for index in kink.elements)
            more = ", ..." if kink.count > len(kink.elements) else ""
            rows.append((kink.operation, str(kink.line), str(kink.count), shown + more, kink.convention))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    # -- looking on ----------------------------------------------------------------------------------------------------

    def recorded(self, op: Op, args: tuple[Any, ...], params: dict[str, Any], result: Any) -> None:
        """Find the elements of a result that are at a kink."""
        if op.kink is not None:
            found = _at_kink(op, values(result), args, params)
            if found.any():
                result._node.watched().kink = found

    def pulled(self, node: Any, i: int, g: Any, pulled: Any) -> None:
        """Count those whose gradient is not 0."""
        found = node.known.kink
        if found is not None:
            self._take(node, found & (values(g) != 0))

    def pushed(self, node: Any, i: int, t: Any, pushed: Any) -> None:
        """Count those that move."""
        found = node.known.kink
        if found is not None:
            self._take(node, found & (values(t) != 0) if node.op.kind == "elementwise" else found)

    def _take(self, node: Any, taken: Any) -> None:
        walk, met = in_walk(), _met.get((None, set()))
        seen = met[1] if met[0] is walk else set()
        _met.set((walk, seen))
        if (id(self), node.order) in seen or not taken.any():  # it comes by for each argument
            return
        seen.add((id(self), node.order))
        places = np.argwhere(taken)
        elements = tuple(tuple(place) for place in places[:SHOWN].tolist())
        name, line = node.op.name, node.known.line
        if self._action == "error":
            shown = ", ".join(str(list(index)) for index in elements) + (", ..." if len(places) > SHOWN else "")
            chosen = " (or choose another with kink_slopes)" if node.op.slopes else ""
            raise KinkError(
                f"the gradient of {name} at {line} is taken exactly at a kink, for {len(places)} of {taken.size} "
                f"elements, at {shown}. The convention is: {convention(node.op)}. Move the input, or accept that"
                f"{chosen} and leave out kinks('error')"
            )
        old = self._found.get((name, line))
        if old is not None:
            self._found[name, line] = replace(old, count=old.count + len(places))
        else:
            self._found[name, line] = Kink(name, line, len(places), elements, convention(node.op))


def convention(op: Op) -> str:
    """What the gradient of an operation is at its kinks."""
    return op.ties or "the slope is infinite, and the gradient 0 where the slope behind it is 0"


def _at_kink(op: Op, y: Any, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    assert op.kink is not None
    with np.errstate(all="ignore"):
        found = op.kink(y, *(values(a) for a in args), **params)
    return np.broadcast_to(found, np.shape(y))


class kink_slopes(Inspector):
    """Inside, recorded operations take the slopes you choose at their kinks: `kink_slopes(relu=0.5, maximum=1)`.

    What is chosen is the slope by the first argument; arguments that tie with it get what is left of 1. Which
    operations let you choose, from which range, is in the table of kinks in the documentation. Gradients of any order
    and mode follow, also if they are taken outside. Also a decorator.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor(0.0, requires_grad=True)
    >>> with tg.autograd.kink_slopes(relu=0.5):
    ...     y = tg.relu(x)
    >>> y.backward()
    >>> x.grad
    tensor(0.5)
    """

    def __init__(self, **slopes: float) -> None:
        self._chosen = {name: _with_slope(name, slope) for name, slope in slopes.items()}

    def recorded(self, op: Op, args: tuple[Any, ...], params: dict[str, Any], result: Any) -> None:
        """Give a new node the rules that were chosen, and all that they read."""
        chosen = self._chosen.get(op.name)
        if chosen is not None:
            result._node.op = chosen
            result._node.saved = (values(result), *(values(a) for a in args))


def _with_slope(name: str, slope: float) -> Op:
    """The operation with another slope at its kinks."""
    op = OPS.get(name)
    if op is None or op.slopes is None:
        able = ", ".join(sorted(name for name, op in OPS.items() if op.slopes))
        what = "is no operation" if op is None else "has no slope to choose"
        raise ArgumentError(f"kink_slopes: {name} {what}; those that have are {able}")
    low, high = op.slopes
    if not isinstance(slope, int | float) or not low <= slope <= high:
        raise ArgumentError(f"kink_slopes: {name}={slope!r} is not a number from {low:g} to {high:g}")
    rules = [_rule(op, i, rule, slope if i == 0 else 1 - slope) for i, rule in enumerate(op.vjps)]
    chosen = replace(op, vjps=rules, jvps=rules, ties=f"slope {slope:g}, chosen by kink_slopes")
    chosen.call = op.call
    return chosen


def _rule(op: Op, i: int, rule: Rule, share: float) -> Rule:
    def chosen(t: Any, y: Any, *args: Any) -> Any:
        found = _at_kink(op, values(y), args, {})
        if i:
            found = found & (values(args[0]) == values(args[i]))
        return where(found, t * share, rule(t, y, *args))

    return chosen
