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
from typing import Any, NamedTuple

import numpy as np

from ..batched import Batched, Level, varies
from ..registry import OPS, Op
from ..tensor import Tensor, plain_index

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


# -- convolutions ------------------------------------------------------------------------------------------------------


@fixed
def convolution(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """Of images that all examples share: the results of all, as more channels."""
    if moved[0] or params["groups"] > 1:
        return convolution_input(op, level, args, moved, params)
    y = op.call(args[0], *map(_joined, _spread(args[1:], moved[1:], level)), **params)
    return _apart_again(y, level)


@fixed
def convolution_input(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """With the same weights for all, more images; else the channels of all examples in groups that do not mix."""
    if not any(moved[1:]):
        return merged(0)(op, level, args, moved, params)
    x, *weights = _spread(args, moved, level)
    y = op.call(_beside(x), *map(_joined, weights), **{**params, "groups": params["groups"] * level.size})
    return _apart_again(y, level)


@fixed
def convolution_weight(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """The gradients by the weights of each example, by more channels or groups."""
    if moved[0] or params["groups"] > 1:
        x, g = _spread(args, moved, level)
        w = op.call(_beside(x), _beside(g), **{**params, "groups": params["groups"] * level.size})
    else:
        w = op.call(args[0], _beside(args[1]), **params)
    return _reshape(w, (level.size, w.shape[0] // level.size, *w.shape[1:]))


def _joined(w: Any) -> Any:
    """(batch, channels, ...) as (batch·channels, ...)."""
    return _reshape(w, (w.shape[0] * w.shape[1], *w.shape[2:]))


def _beside(x: Any) -> Any:
    """(batch, images, channels, ...) as (images, batch·channels, ...)."""
    x = OPS["transpose"].call(x, axes=(1, 0, *range(2, x.ndim)))
    return _reshape(x, (x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:]))


def _apart_again(y: Any, level: Level) -> Any:
    """`_beside` backwards."""
    y = _reshape(y, (y.shape[0], level.size, y.shape[1] // level.size, *y.shape[2:]))
    return OPS["transpose"].call(y, axes=(1, 0, *range(2, y.ndim)))


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


class _Places(NamedTuple):
    """An index into a whole batch. What it picks has the batch in front, then the axes of the arrays in the index."""

    where: tuple[Any, ...]
    before: int  # how many axes stand before those of the arrays in what an example's index picks
    arrays: int  # how many axes the arrays have
    ndim: int  # how many axes there are

    def as_examples(self, y: Any) -> Any:
        """What the index picked, with the axes in the order of an example."""
        return self._moved(y, self.arrays, self.before)

    def as_picked(self, y: Any) -> Any:
        """The other way round."""
        return self._moved(y, self.before, self.arrays)

    @staticmethod
    def _moved(y: Any, a: int, b: int) -> Any:
        """With the first `a` axes after the batch and the `b` axes behind them exchanged."""
        if not a or not b:
            return y
        axes = (0, *range(1 + a, 1 + a + b), *range(1, 1 + a), *range(1 + a + b, y.ndim))
        return OPS["transpose"].call(y, axes=axes)


def _parts(index: Any, ndim: int) -> list[Any] | None:
    """The parts of an index with `...` written out and masks as places; None if a mask differs between the examples."""
    found: list[Any] = []
    for part in _as_tuple(index):
        if isinstance(part, bool | np.bool_) or (isinstance(part, Tensor) and part.dtype.kind == "b"):
            return None
        found += np.nonzero(part) if isinstance(part, np.ndarray) and part.dtype.kind == "b" else (part,)
    used = sum(part is not None and part is not Ellipsis for part in found)
    at = next((i for i, part in enumerate(found) if part is Ellipsis), None)
    if at is not None:
        found[at : at + 1] = [slice(None)] * (ndim - used)
    return found


def _places(index: Any, ndim: int, level: Level, moved: bool) -> _Places | None:
    """Where an index of examples with `ndim` axes points to in the whole batch (if not `moved`: in what all share)."""
    parts = _parts(index, ndim)
    if parts is None:
        return None
    at = [i for i, part in enumerate(parts) if part is not None and not isinstance(part, slice)]
    ours = [isinstance(part, Batched) and part.level is level for part in parts]
    arrays = max(_ndim(parts[i].full if ours[i] else parts[i], ours[i]) for i in at)
    before = at[0] if at[-1] - at[0] < len(at) else 0  # arrays that stand apart: their axes come first
    used = sum(part is not None for part in parts)
    picked = arrays + len(parts) - len(at) + ndim - used
    lined = [_with_axes(p.full, arrays) if our else p for p, our in zip(parts, ours, strict=True)]
    if moved:
        lined.insert(0, np.arange(level.size).reshape(-1, *(1,) * arrays))
    return _Places(plain_index(tuple(lined)), before, arrays, picked)


def getitem(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`x[index]` with one index for all examples, or with integers of each example's own."""
    (x,), index = args, params["index"]
    if not varies(params, level) and not _apart(index):
        return op.call(x, index=_with_batch(index))
    places = _places(index, _ndim(x, moved[0]), level, moved[0])
    if places is None:
        return None
    y = op.call(x, index=places.where)
    return places.as_examples(y) if moved[0] else _batch_to_front(y, places.before)


@fixed
def scatter(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`getitem` backwards."""
    (g,), index, shape = args, params["index"], params["shape"]
    if _apart(index):
        places = _places(index, len(shape), level, True)
        if places is None:
            return None
        index, g = places.where, places.as_picked(g)
    else:
        index = _with_batch(index)
    return op.call(g, index=index, shape=(level.size, *shape))


def write(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`x` with a value written, or added, at an index that is the same for all examples, or differs."""
    index, (x, value) = params["index"], args
    if isinstance(index, Batched) and index.dtype.kind == "b":
        return _masked(op, level, args, moved, index)
    x = _spread([x], moved[:1], level)[0]
    if not varies(params, level) and not _apart(index):
        if moved[1]:
            value = _with_axes(value, np.broadcast_to(0, x.shape[1:])[index].ndim)
        return op.call(x, value, index=_with_batch(index))
    places = _places(index, x.ndim - 1, level, True)
    if places is None:
        return None
    if moved[1] or _ndim(value, False):
        if not moved[1]:
            value = _reshape(value, (1, *value.shape))
        value = places.as_picked(_with_axes(value, places.ndim))
    return op.call(x, value, index=places.where)


def _masked(op: Op, level: Level, args: list[Any], moved: list[bool], mask: Batched) -> Any:
    """A value written where a mask of each example's own is true, if it does not matter how many places there are."""
    x, value = args
    rest = _ndim(x, moved[0]) - mask.ndim
    kind = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    if op.name != "index_update" or mask.level is not level or _ndim(value, moved[1]) > rest:
        return None
    if not np.can_cast(kind, x.dtype, "same_kind"):
        return None
    if hasattr(value, "dtype") and kind != x.dtype:
        value = OPS["astype"].call(value, dtype=x.dtype)
    condition = _reshape(mask.full, (*mask.full.shape, *(1,) * rest))
    args = _line_up([value, x, condition], [moved[1], moved[0], True])
    return OPS["where"].call(*args[:2], condition=args[2] if isinstance(args[2], Batched) else args[2]._data)


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
    """Losses of classes: each sample's own, then the mean or the sum of each example's."""
    x, target = _spread(args, moved, level)
    if isinstance(target, Batched):
        return None
    y = target._data if isinstance(target, Tensor) else target
    single = x.ndim == 2
    rows = x if single else _reshape(x, (-1 if x.size else 0, *x.shape[2:]))
    losses = op.call(rows, y.reshape(-1, *y.shape[2:]), **{**params, "reduction": "none"})
    losses = _reshape(losses, y.shape)
    if params["reduction"] == "none":
        return losses
    axes = tuple(range(1, losses.ndim))
    weight, counts = params["weight"], y != params["ignore_index"]
    if weight is None and counts.all():
        return losses if single else OPS[params["reduction"]].call(losses, axis=axes, keepdims=False)
    total = losses if single else OPS["sum"].call(losses, axis=axes, keepdims=False)
    if params["reduction"] == "sum":
        return total
    weights = counts if weight is None else counts * weight[np.where(counts, y, 0)]
    whole = np.sum(weights, axis=axes).astype(x.dtype)
    none = whole == 0  # the mean of nothing is NaN
    return total / np.where(none, whole.dtype.type(1), whole) + np.where(none, math.nan, 0.0).astype(x.dtype)


@fixed
def squared_error(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """A sum for each example."""
    a, b = _line_up(args, moved)
    squares = OPS["square"].call(a - b)
    return OPS["sum"].call(squares, axis=tuple(range(1, squares.ndim)), keepdims=False) * params["share"]


# -- tables ------------------------------------------------------------------------------------------------------------


def _in_own_table(indices: Any, moved: bool, level: Level, count: int) -> Any:
    """Indices into tables of `count` rows, as indices into the tables of all examples, one below the other."""
    ndim = _ndim(indices, moved)
    first = np.arange(0, level.size * count, count).reshape(-1, *(1,) * ndim)
    return OPS["astype"].call(indices, dtype=np.dtype(np.int64)) + first


def _where_padding(indices: Any, padding_idx: int, a: Any, b: Any) -> Any:
    """`a` where an index is `padding_idx`, else `b`; indices without a batch are for all examples."""
    same = OPS["equal"].call(indices, padding_idx)
    same = _reshape(same, (*same.shape, 1))
    known = isinstance(same, Tensor) and not isinstance(same, Batched)
    return OPS["where"].call(a, b, condition=same._data if known else same)


@fixed
def rows_of_table(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`embedding`; where each example has a table of its own, all of them are one below the other."""
    indices, table = args
    if not moved[1]:
        return op.call(*args, **params)
    flat = _reshape(table, (level.size * table.shape[1], table.shape[2]))
    own = _in_own_table(indices, moved[0], level, table.shape[1])
    y = op.call(own, flat, padding_idx=None)
    if params["padding_idx"] is None:
        return y
    still = 0.0 if op.name == "embedding_moving" else y.detach()
    return _where_padding(indices, params["padding_idx"], still, y)


@fixed
def rows_added(op: Op, level: Level, args: list[Any], moved: list[bool], params: dict[str, Any]) -> Any:
    """`embedding` backwards: into the tables of all examples, one below the other."""
    indices, g = args
    count, padding = params["count"], params["padding_idx"]
    own = _in_own_table(indices, moved[0], level, count)
    g = _spread([g], moved[1:], level)[0]
    if padding is not None:
        g = _where_padding(indices, padding, 0.0, g)
    table = op.call(own, g, count=level.size * count, padding_idx=None)
    return _reshape(table, (level.size, count, g.shape[-1]))
