"""`detect_anomaly`: which operation made a NaN or an infinity, forwards and backwards.

Recorded results and the cotangents of a walk are looked at one by one. Operations that nothing is recorded of are not
seen by inspectors; there NumPy's own floating-point flags tell, and cost nothing until one is raised.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Literal, Self, get_args

import numpy as np

from .errors import Anomaly, AnomalyError, AnomalyWarning, ArgumentError, FloatFlag, describe
from .graph import AnyNode, Node, Scatter
from .lines import Line, user_line
from .modes import Inspector, in_walk
from .registry import Op
from .strong_zero import values
from .tensor import constant
from .views import guard

Action = Literal["raise", "warn", "ignore"]
Kind = Literal["NaN", "inf"]
TESTS: dict[Kind, Callable[[Any], Any]] = {"NaN": np.isnan, "inf": np.isinf}  # the worse one first
SHOWN = 3  # of the elements that are not finite, so many are named

_found: ContextVar[Any] = ContextVar("tinygrad_nn_floating_point_handling", default=None)  # a chain, as `modes._outer`


class detect_anomaly(Inspector):
    """Inside, the first operation that makes a NaN or an infinity from finite numbers raises `AnomalyError`.

    The error names the operation, the elements, the input values there and the line of your program. `nan` and `inf`
    say what happens as soon as an operation makes one: `"raise"`, `"warn"` (an `AnomalyWarning`) or `"ignore"`.
    Infinities are ignored unless you ask: masks of -inf and `log(0)` where `where` takes the other branch are no
    faults. To see overflow, say `inf="warn"`. Whatever they say, `backward` raises when it starts from a result that a
    NaN or a computed infinity has reached, naming where that was made; and when a gradient it leaves or returns is not
    finite, naming the first operation that made it so from finite numbers. With `nan="ignore"`, then, a NaN that
    `where` or a mask drops is no fault.

    Backward also refuses arrays that anything, NumPy code included, has changed since an operation kept them.

    Forward pass and backward pass must both be inside. Also a decorator: `@detect_anomaly()`.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor([1.0, -2.0], requires_grad=True)
    >>> with tg.autograd.detect_anomaly():
    ...     tg.log(x)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tinygrad_nn.errors.AnomalyError: log at ... made 1 NaN among 2 elements, at [1], from input 0 = -2
    """

    def __init__(self, nan: Action = "raise", inf: Action = "ignore") -> None:
        for name, action in (("nan", nan), ("inf", inf)):
            if action not in get_args(Action):
                raise ArgumentError(f"detect_anomaly: {name} is 'raise', 'warn' or 'ignore', not {action!r}")
        self._actions = {"NaN": nan, "inf": inf}

    def recorded(self, op: Op, args: tuple[Any, ...], params: dict[str, Any], result: Any) -> None:
        """Look at a result; what is not finite in it is remembered with its node, and what the node keeps in full."""
        y, node = result._data, result._node
        line = node.known.line
        guard(node, 0, exact=True)
        if is_finite(y):
            return
        anomalies, origin = in_result(op, args, y, line)
        if origin is not None:
            node.watched().origin = origin
        if in_walk() is None:  # the derivative of an operation is judged as a whole, in `pulled`
            self._report(anomalies, line)

    def starts(self, nodes: Iterable[AnyNode]) -> None:
        """Refuse to walk back from what is not finite, unless an infinity was put in."""
        for node in nodes:
            origin = node.known.origin
            if origin is not None and (origin.made or origin.kind == "NaN"):
                raise AnomalyError(replace(origin, text=f"backward starts from what is not finite: {origin.text}"))

    def pulled(self, node: Any, i: int, g: Any, pulled: Any) -> None:
        """Look at a cotangent; what is not finite in it is remembered, because an exact zero may take it away again."""
        parent = node.parents[i]
        self._remember("backward", node, i, g, pulled, node, parent)

    def pushed(self, node: Any, i: int, t: Any, pushed: Any) -> None:
        """Look at a tangent."""
        self._remember("tangent", node, i, t, pushed, node.parents[i], node)

    def ends(self, found: dict[AnyNode, Any]) -> None:
        """Refuse gradients and tangents that are not finite."""
        walk = in_walk()
        assert walk is not None
        for node, g in found.items():
            if not is_finite(values(g)):
                raise AnomalyError(walk.notes[self].get(node) or _sum(values(g)))

    def _remember(
        self, phase: Literal["backward", "tangent"], node: Node, i: int, g: Any, made: Any, giver: Any, taker: Any
    ) -> None:
        walk = in_walk()
        assert walk is not None
        known = walk.notes[self]
        if taker not in known and not is_finite(made.values if type(made) is Scatter else values(made)):
            known[taker] = known.get(giver) or _in_step(phase, node, i, g, made)

    def _report(self, anomalies: Sequence[Anomaly], line: Line) -> None:
        for anomaly in anomalies:
            action = self._actions[anomaly.kind]
            if action == "raise":
                raise AnomalyError(anomaly)
            if action == "warn":
                warnings.warn_explicit(str(anomaly), AnomalyWarning, line.file, line.number)

    # -- operations that are not recorded ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        settings, handler = np.geterr(), np.geterrcall()
        _found.set((settings, handler, _found.get()))

        def flagged(what: str, flag: int) -> None:
            self._flagged(what, {"i": "invalid", "o": "over", "d": "divide"}[what[0]], settings)

        if self._actions["NaN"] != "ignore":
            np.seterr(invalid="call")
        if self._actions["inf"] != "ignore":
            np.seterr(over="call", divide="call")
        np.seterrcall(flagged)
        return super().__enter__()

    def __exit__(self, *exc: object) -> None:
        if (found := _found.get()) is not None:
            np.seterr(**found[0])
            np.seterrcall(found[1])
            _found.set(found[2])
        super().__exit__(*exc)

    def _flagged(self, what: str, setting: str, settings: Any) -> None:
        """NumPy met an invalid value, an overflow or a division by zero. Inside an operation, have it looked into."""
        kind: Kind = "NaN" if setting == "invalid" else "inf"
        frame = sys._getframe(2)
        module = frame.f_globals.get("__name__", "")
        if self._actions[kind] != "ignore" and in_walk() is None:
            inner: Any = frame
            while module.startswith(("numpy.", __package__ + ".")):
                op = inner.f_locals.get("op")
                if isinstance(op, Op):
                    line = str(user_line())
                    text = f"{op.name} at {line} met {'an ' * (kind == 'NaN')}{what} in arrays"
                    raise FloatFlag(Anomaly(kind, op.name, line, "forward", (), 0, (), True, text), self._settle)
                inner = inner.f_back
                module = inner.f_globals.get("__name__", "")
        if settings[setting] == "raise":
            raise FloatingPointError(f"{what} encountered")
        if settings[setting] == "warn":
            warnings.warn_explicit(
                f"{what} encountered", RuntimeWarning, frame.f_code.co_filename, frame.f_lineno, module
            )

    def _settle(self, op: Op, args: tuple[Any, ...], params: dict[str, Any], recorded: bool) -> Any:
        """Run the forward of `op` again, without flags, and look at the result unless it will be `recorded`."""
        data = [constant(values(a)) for a in args]
        with np.errstate(all="ignore"):
            result = op.forward(*data, **params)
        if not recorded:
            line = user_line()
            y = result[0] if op.residual else result
            self._report(in_result(op, args, y, line)[0], line)
        return result


def is_finite(x: Any) -> bool:
    """Whether an array has no NaN and no infinity: the sum of its squares tells, unless that overflows."""
    if x.dtype.kind not in "fc":
        return True
    if x.dtype.char in "fdFD" and x.ndim:
        flat = x.ravel(order="K")
        with np.errstate(over="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return True
    return bool(np.isfinite(x).all())


def in_result(op: Op, args: Sequence[Any], y: Any, line: Line) -> tuple[list[Anomaly], Anomaly | None]:
    """What is not finite in the result `y` of `op`: anomalies that begin here, and where the worst comes from.

    An infinity that was put in is nobody's fault: something comes from it, but it is no anomaly.
    """
    arrays = [np.asarray(values(a)) for a in args]
    begun: list[Anomaly] = []
    origin: Anomaly | None = None
    for kind, test in TESTS.items():
        bad = test(y)
        if not bad.any():
            continue
        infected = [k for k, a in enumerate(arrays) if test(a).any()]
        if op.kind == "elementwise":
            for k in infected:
                bad = bad & ~np.broadcast_to(test(arrays[k]), np.shape(y))
        elif infected:
            bad = np.zeros_like(bad)
        if bad.any():
            anomaly = _made(kind, op, args, arrays, bad, line)
            begun.append(anomaly)
        else:
            known = _origin(args[infected[0]])
            anomaly = known or _given(kind, op, infected[0], arrays[infected[0]], line)
            if known is None and kind == "NaN":
                begun.append(anomaly)
        origin = origin or anomaly
    return begun, origin


def _origin(value: Any) -> Anomaly | None:
    """Where something in a Tensor that is not finite came from, if an operation made it."""
    node = getattr(value, "_node", None)
    return None if node is None else node.known.origin


def _made(kind: Kind, op: Op, args: Sequence[Any], arrays: Sequence[Any], bad: Any, line: Line) -> Anomaly:
    """`op` made something not finite where `bad` says."""
    indices, count, where = _places(kind, bad)
    inputs, story = _inputs_at(op, arrays, np.shape(bad), indices[0])
    text = f"{op.name} at {line} made {where}, from {story}"
    before = _first(next((known for a in args if (known := _origin(a)) is not None), None))
    return Anomaly(kind, op.name, str(line), "forward", indices, count, inputs, True, text, before)


def _first(known: Anomaly | None) -> Anomaly | None:
    return known.first or known if known is not None else None


def _given(kind: Kind, op: Op, k: int, array: Any, line: Line) -> Anomaly:
    """Input `k` of `op` held something not finite that no recorded operation made."""
    indices, count, where = _places(kind, TESTS[kind](array))
    text = f"{op.name} at {line} was given {where}, in its input {k}, which no recorded operation made"
    return Anomaly(kind, op.name, str(line), "forward", indices, count, (), False, text)


def _sum(g: Any) -> Anomaly:
    """A gradient that no step made: given, or the sum of finite ones."""
    kind: Kind = "NaN" if np.isnan(g).any() else "inf"
    indices, count, where = _places(kind, TESTS[kind](g))
    text = f"a gradient has {where}: it was given so, or is a sum that overflowed"
    return Anomaly(kind, "", "", "backward", indices, count, (), False, text)


def _in_step(phase: Literal["backward", "tangent"], node: Node, i: int, g: Any, found: Any) -> Anomaly:
    """What is not finite in `found`, which the derivative of `node` by argument `i` made of `g`."""
    if type(found) is Scatter:
        whole = np.zeros(found.shape, found.dtype)
        found.add_to(whole)
    else:
        whole = values(found)
    op, t = node.op, values(g)
    kind: Kind = "NaN" if np.isnan(whole).any() else "inf"
    indices, count, where = _places(kind, TESTS[kind](whole))
    saved = node.saved or ()
    kept = {k: v for k, v in enumerate(saved) if isinstance(v, np.ndarray | np.generic | float | int)}
    names = [f"input {k - 1}" if k else "result" for k in kept]
    inputs, story = _inputs_at(op, kept.values(), np.shape(whole), indices[0], names)
    if 0 in kept:
        inputs = inputs[1:]
    line = str(node.known.line or "")
    what = f"the gradient of input {i}" if phase == "backward" else f"the tangent by input {i}"
    carrier = "gradient" if phase == "backward" else "tangent"
    text = f"{phase} of {node.name}: {what} has {where}"
    if op.kind == "elementwise" and t.shape == whole.shape:
        text += f", from a {carrier} of {t[indices[0]]:.6g}"
    else:
        text += f", from a {carrier} {_range(t)}"
    text += f", {story}" if story else ""
    if not is_finite(t):
        text += f"; that {carrier} came in so: given, from a hook, or a sum that overflowed"
    before = _first(node.known.origin)
    return Anomaly(kind, op.name, line, phase, indices, count, inputs, is_finite(t), text, before)


def _places(kind: Kind, bad: Any) -> tuple[tuple[tuple[int, ...], ...], int, str]:
    """The first elements that are `bad`, how many there are, and both in words."""
    shape = np.shape(bad)
    first = np.flatnonzero(bad)
    indices = tuple(tuple(int(n) for n in np.unravel_index(k, shape)) for k in first[:SHOWN])
    if not shape:
        return ((),), 1, f"{kind}, a single number"
    shown = ", ".join(str(list(index)) for index in indices) + (", ..." if len(first) > SHOWN else "")
    return indices, len(first), f"{len(first)} {kind} among {np.size(bad)} elements, at {shown}"


def _inputs_at(
    op: Op, arrays: Iterable[Any], shape: tuple[int, ...], index: tuple[int, ...], names: Sequence[str] = ()
) -> tuple[tuple[Any, ...], str]:
    """The inputs at one element of a result, and in words; where that cannot be said, their ranges in words."""
    arrays = [np.asarray(a) for a in arrays]
    names = names or [f"input {k}" for k in range(len(arrays))]
    if op.kind == "elementwise" and np.broadcast_shapes(shape, *(a.shape for a in arrays)) == shape:
        found = tuple(np.broadcast_to(a, shape)[index].item() for a in arrays)
        return found, ", ".join(f"{name} = {value:.6g}" for name, value in zip(names, found, strict=True))
    return (), ", ".join(f"{name} {_range(a)}" for name, a in zip(names, arrays, strict=True))


def _range(x: Any) -> str:
    """`float32(3, 4) from -1 to 2`; for a single number, its value."""
    x = np.asarray(x)
    if x.size == 1:
        return f"= {x.item():.6g}"
    finite = x[np.isfinite(x)]
    if not finite.size:
        return f"{describe(x)} without a finite element"
    rest = x.size - finite.size
    ends = f"{describe(x)} from {finite.min():.6g} to {finite.max():.6g}" if x.dtype.kind in "fiub" else describe(x)
    return ends + (f" but for {rest} that are not finite" if rest else "")
