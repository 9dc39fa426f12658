"""How operations act on a whole batch at once: the rules that declarations name as `batch=`, and `vmap` runs.

A rule is `rule(op, level, args, moved, params)`. Where `moved[i]` is true, `args[i]` has the batch along its first
axis, in front of the axes that an example has. The rule runs the operation, or others that come to the same, on all
examples and returns a result with the batch in front; or None where it cannot, and then each example runs alone.

Elementwise operations need `aligned` only, which is the default; an operation that works along an axis has `along`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from string import ascii_letters
from typing import Any

import numpy as np

from ..batched import Batched, Level, varies
from ..registry import OPS, Op
from ..tensor import Tensor

Rule = Callable[[Op, Level, list[Any], list[bool], dict[str, Any]], Any]


def fixed(rule: Rule) -> Rule:
    """A rule for parameters that are the same for all examples; where one is not, there is none."""

    @functools.wraps(rule)
    def checked(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
        return None if params and varies(params, level) else rule(op, level, args, moved, params)

    return checked


def _reshape(x: Any, shape: tuple[int, ...]) -> Any:
    return x if x.shape == shape else OPS["reshape"].call(x, shape=shape)


def _batch_to_front(x: Any, axis: int) -> Any:
    order = (axis, *(i for i in range(x.ndim) if i != axis))
    return OPS["transpose"].call(x, axes=order)


def _ndim(x: Any, moved: bool) -> int:
    """How many axes an example has."""
    return getattr(x, "ndim", 0) - moved


def _with_axes(x: Any, ndim: int) -> Any:
    """A batch of examples, each with axes of length 1 in front until it has `ndim`."""
    return _reshape(x, (x.shape[0], *(1,) * (ndim + 1 - x.ndim), *x.shape[1:]))


def _line_up(args: Sequence[Any], moved: Sequence[bool]) -> list[Any]:
    """The arguments so that they broadcast, batch against batch and axis against axis."""
    ndim = max(map(_ndim, args, moved))
    return [_with_axes(a, ndim) if m and a.ndim <= ndim else a for a, m in zip(args, moved, strict=True)]


def _spread(args: Sequence[Any], moved: Sequence[bool], level: Level) -> list[Any]:
    """The arguments, those that are the same for all examples repeated for each."""
    return [
        a if m else OPS["broadcast_to"].call(a, shape=(level.size, *getattr(a, "shape", ())))
        for a, m in zip(args, moved, strict=True)
    ]


# -- rules for many operations -----------------------------------------------------------------------------------------


@fixed
def aligned(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """Elementwise: broadcasting does it all."""
    return op.call(*_line_up(args, moved), **params)


@fixed
def leading(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """Only the last axes matter, and any number may be in front."""
    return op.call(*_spread(args, moved, level), **params)


@fixed
def along(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """The parameter `axis` counts one axis more: a number, a tuple, or None for all axes of an example."""
    axis = params["axis"]
    if axis is None:
        axis = tuple(range(_ndim(args[0], True)))
    shifted = axis + 1 if isinstance(axis, int) else tuple(a + 1 for a in axis)
    return op.call(*_spread(args, moved, level), **{**params, "axis": shifted})


@fixed
def position(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`argmax` and its like: one axis, or the flattened example."""
    if params["axis"] is not None:
        return along(op, level, args, moved, params)
    (x,) = args
    found = op.call(_reshape(x, (level.size, math.prod(x.shape[1:]))), axis=1, keepdims=False)
    return _reshape(found, (level.size, *(1,) * (x.ndim - 1))) if params["keepdims"] else found


def merged(*first: int) -> Rule:
    """The arguments number `first` have an axis of samples in front: batch and samples become one axis."""

    @fixed
    def rule(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
        if any(m and i not in first for i, m in enumerate(moved)):
            return None
        spread = _spread([args[i] for i in first], [moved[i] for i in first], level)
        inner = spread[0].shape[1]
        args = list(args)
        for i, x in zip(first, spread, strict=True):
            args[i] = _reshape(x, (level.size * inner, *x.shape[2:]))
        y = op.call(*args, **params)
        return _reshape(y, (level.size, inner, *y.shape[1:]))

    return rule


# -- shapes ------------------------------------------------------------------------------------------------------------


@fixed
def reshape(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """Each example in another shape."""
    (x,), shape = args, params["shape"]
    if -1 in shape:
        known = -math.prod(shape)
        shape = tuple(math.prod(x.shape[1:]) // known if n == -1 else n for n in shape) if known else shape
    return op.call(x, shape=(level.size, *shape))


@fixed
def transpose(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """The batch stays in front."""
    return op.call(args[0], axes=(0, *(a + 1 for a in params["axes"])))


@fixed
def broadcast_to(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """Each example stretched."""
    shape = params["shape"]
    return op.call(_with_axes(args[0], len(shape)), shape=(level.size, *shape))


@fixed
def sum_to(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """Each example added up."""
    (x,), shape = args, params["shape"]
    lead = x.ndim - 1 - len(shape)
    if lead > 0:
        x = OPS["sum"].call(x, axis=tuple(range(1, lead + 1)), keepdims=False)
    return op.call(x, shape=(level.size, *shape))


@fixed
def pad(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """No border around the batch."""
    return op.call(args[0], widths=((0, 0), *params["widths"]), value=params["value"])


# -- where, indexing ---------------------------------------------------------------------------------------------------


def where(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """Elementwise, and the condition, too, may differ between the examples."""
    condition = params["condition"]
    moves = isinstance(condition, Batched) and condition.level is level
    *args, condition = _line_up([*args, condition.full if moves else condition], [*moved, moves])
    known = isinstance(condition, Tensor) and not isinstance(condition, Batched)
    return OPS["where"].call(*args, condition=condition._data if known else condition)


def _as_tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _advanced(part: Any) -> bool:
    """Whether this part of an index picks elements one by one: next to an array, a number does, too."""
    return isinstance(part, np.ndarray | int | np.integer) and not isinstance(part, bool)


def _apart(index: Any) -> bool:
    """Whether arrays stand apart in an index, with a slice between: then their axes come first in the result."""
    parts = _as_tuple(index)
    if not any(isinstance(p, np.ndarray) for p in parts):
        return False
    places = [i for i, p in enumerate(parts) if _advanced(p)]
    return places[-1] - places[0] >= len(places)


def _with_batch(index: Any) -> tuple[Any, ...]:
    return (slice(None), *_as_tuple(index))


def getitem(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`x[index]` with one index for all examples; or with an integer array of each example's own, in front."""
    (x,), index = args, params["index"]
    if not varies(params, level):
        return None if _apart(index) else op.call(x, index=_with_batch(index))
    first, *rest = _as_tuple(index)
    whole = rest and not all(isinstance(p, slice) for p in rest)
    if not isinstance(first, Batched) or first.level is not level or first.dtype.kind not in "iu" or whole:
        return None
    rows = first.full
    if moved[0]:
        each = np.arange(level.size).reshape(-1, *(1,) * (rows.ndim - 1))
        return x[(each, rows, *rest)]
    return x[(rows, *rest)]


@fixed
def scatter(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`getitem` backwards."""
    if _apart(params["index"]):
        return None
    return op.call(args[0], index=_with_batch(params["index"]), shape=(level.size, *params["shape"]))


@fixed
def write(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`x` with a value written, or added, at an index that is the same for all examples."""
    index, (x, value) = params["index"], args
    if _apart(index):
        return None
    x = _spread([x], moved[:1], level)[0]
    if moved[1]:
        value = _with_axes(value, np.broadcast_to(0, x.shape[1:])[index].ndim)
    return op.call(x, value, index=_with_batch(index))


# -- products ----------------------------------------------------------------------------------------------------------


@fixed
def matmul(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """The batch is one more leading axis; a matrix that all examples share takes one product."""
    a, b = args
    if moved[0] and not moved[1] and b.ndim == 2:  # one matrix for all: one product
        rows = _reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
        return _reshape(op.call(rows, b), (*a.shape[:-1], b.shape[-1]))
    return op.call(*_line_up(args, moved))


@fixed
def matvec(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """As `matmul`, of vectors."""
    a, v = args
    if not moved[1]:
        return op.call(a, v)
    if _ndim(a, moved[0]) == 1:
        return OPS["sum"].call(OPS["multiply"].call(a, v), axis=(1,), keepdims=False)
    if not moved[0] and a.ndim == 2:
        return v @ a.mT
    columns = _reshape(v, (*v.shape, 1))
    found = OPS["matmul"].call(*_line_up([a, columns], moved))
    return _reshape(found, found.shape[:-1])


@fixed
def linear(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """Any number of rows, unless the weights differ between the examples."""
    x, weight, bias = args
    if not moved[1] and not moved[2]:
        return op.call(x, weight, bias)
    weights = [Batched(a, level) if m else a for a, m in zip(args, moved, strict=True)]
    one: Any = weights[0] @ weights[1].mT + weights[2]
    return one.full


@fixed
def einsum(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """One more letter."""
    inputs, output = params["inputs"], params["output"]
    batch = next(c for c in ascii_letters if c not in "".join(inputs))
    inputs = tuple(batch + letters if m else letters for letters, m in zip(inputs, moved, strict=True))
    return op.call(*args, inputs=inputs, output=batch + output)


# -- losses ------------------------------------------------------------------------------------------------------------


@fixed
def per_sample_loss(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """Losses of classes: each sample's own, then the mean or the sum of each example's, if all samples count alike."""
    x, target = _spread(args, moved, level)
    y = target._data if isinstance(target, Tensor) else target
    if params["weight"] is not None or isinstance(target, Batched) or (y == params["ignore_index"]).any():
        return None
    single = x.ndim == 2
    rows = x if single else _reshape(x, (-1 if x.size else 0, *x.shape[2:]))
    losses = op.call(rows, y.reshape(-1, *y.shape[2:]), **{**params, "reduction": "none"})
    losses = _reshape(losses, y.shape)
    if single or params["reduction"] == "none":
        return losses
    axes = tuple(range(1, losses.ndim))
    return OPS[params["reduction"]].call(losses, axis=axes, keepdims=False)


@fixed
def squared_error(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """A sum for each example."""
    a, b = _line_up(args, moved)
    squares = OPS["square"].call(a - b)
    return OPS["sum"].call(squares, axis=tuple(range(1, squares.ndim)), keepdims=False) * params["share"]


@fixed
def same_table(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`embedding` with one table of weights."""
    return None if moved[1] else op.call(*args, **params)
