"""Operations that move elements about without changing them: reshape, transpose, broadcast, join, split, pad."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._types import ArrayLike, Axis, DTypeLike, Fn, Shape
from ..domains import case
from ..errors import ArgumentError, AxisError, DTypeError, ShapeError, describe, operation_error
from ..registry import UNUSED, Each
from ..tensor import Tensor, constant
from . import batching
from .declare import general, linear


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of a Tensor, array or number."""
    shape: tuple[int, ...] | None = getattr(x, "shape", None)
    return np.shape(x) if shape is None else shape


def as_shape(shape: Shape) -> tuple[int, ...]:
    """A shape as a tuple of Python integers."""
    lengths = shape if isinstance(shape, Sequence | np.ndarray) else (shape,)
    try:
        return tuple(operator.index(n) for n in lengths)
    except TypeError:
        raise DTypeError(f"{describe(shape)} must be an integer, or a tuple of them") from None


def normalize_axis(axis: int, ndim: int, name: str) -> int:
    """`axis` counted from the front; an error naming the operation where there is no such axis."""
    try:
        number = operator.index(axis)
    except TypeError:
        raise DTypeError(f"{name}: an axis must be an integer, not {describe(axis)}") from None
    if not -ndim <= number < ndim:
        raise AxisError(f"{name}: axis {axis} of an array with {ndim} axes")
    return number % ndim


def normalize_axes(axis: Axis, ndim: int, name: str) -> tuple[int, ...] | None:
    """Several axes counted from the front, in ascending order; None stays None."""
    if axis is None:
        return None
    axes = (axis,) if not isinstance(axis, tuple | list) else axis
    found = sorted(normalize_axis(a, ndim, name) for a in axes)
    if len(set(found)) < len(found):
        raise AxisError(f"{name}: axis {axis} names an axis twice")
    return tuple(found)


# -- reshape, transpose ------------------------------------------------------------------------------------------------

_reshape: Fn = linear(
    "reshape",
    lambda x, *, shape: np.reshape(x, shape),
    [lambda g, _y, _x, *, shape: _reshape(g, shape=_x.shape)],
    cases=(
        case((2, 3), shape=(3, 2)),
        case((2, 3), shape=(-1,)),
        case((1,), shape=()),
        case((0, 3), shape=(3, 0)),
        case((), shape=(1, 1)),
    ),
    formula="the same elements in another shape",
    twin=np.reshape,
    batch=batching.reshape,
)


def reshape(x: ArrayLike, shape: Shape) -> Any:
    """The elements of `x`, in row-major order, in another shape; one length may be -1.

    >>> import tinygrad_nn as tg
    >>> tg.reshape(tg.tensor([1.0, 2.0, 3.0, 4.0]), (2, -1)).shape
    (2, 2)
    """
    return _reshape(x, shape=as_shape(shape))


def flatten(x: ArrayLike, start_axis: int = 0, end_axis: int = -1) -> Any:
    """Axes `start_axis` to `end_axis` (inclusive) of `x` joined into one.

    >>> import tinygrad_nn as tg
    >>> tg.flatten(tg.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    shape = shape_of(x) or (1,)
    start, end = (normalize_axis(a, len(shape), "flatten") for a in (start_axis, end_axis))
    if start > end:
        raise AxisError(f"flatten: start_axis {start_axis} lies behind end_axis {end_axis} in shape {shape}")
    return _reshape(x, shape=(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


_transpose: Fn = linear(
    "transpose",
    lambda x, *, axes: np.transpose(x, axes),
    [lambda g, _y, _x, *, axes: _transpose(g, axes=tuple(np.argsort(axes).tolist()))],
    cases=(case((2, 3), axes=(1, 0)), case((2, 3, 4), axes=(2, 0, 1)), case((), axes=())),
    formula="the axes in another order",
    twin=np.transpose,
    batch=batching.transpose,
)


def transpose(x: ArrayLike, axes: Sequence[int] | None = None) -> Any:
    """`x` with its axes in the order `axes`, or reversed. The result is a view.

    >>> import tinygrad_nn as tg
    >>> tg.transpose(tg.zeros((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    ndim = len(shape_of(x))
    if axes is None:
        return _transpose(x, axes=tuple(range(ndim - 1, -1, -1)))
    order = tuple(normalize_axis(a, ndim, "transpose") for a in axes)
    if sorted(order) != list(range(ndim)):
        raise AxisError(f"transpose: axes {tuple(axes)} do not name each of the {ndim} axes of {describe(x)} once")
    return _transpose(x, axes=order)


def matrix_transpose(x: ArrayLike) -> Any:
    """`x` with its last two axes swapped.

    >>> import tinygrad_nn as tg
    >>> tg.matrix_transpose(tg.zeros((5, 2, 3))).shape
    (5, 3, 2)
    """
    if len(shape_of(x)) < 2:
        raise ShapeError(f"matrix_transpose: {describe(x)} has fewer than two axes")
    return swapaxes(x, -1, -2)


def swapaxes(x: ArrayLike, axis1: int, axis2: int) -> Any:
    """`x` with two axes swapped.

    >>> import tinygrad_nn as tg
    >>> tg.swapaxes(tg.zeros((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    order = list(range(len(shape_of(x))))
    i, j = (normalize_axis(a, len(order), "swapaxes") for a in (axis1, axis2))
    order[i], order[j] = j, i
    return _transpose(x, axes=tuple(order))


def moveaxis(x: ArrayLike, source: int | Sequence[int], destination: int | Sequence[int]) -> Any:
    """`x` with axes moved from `source` to `destination`; the others keep their order.

    >>> import tinygrad_nn as tg
    >>> tg.moveaxis(tg.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    ndim = len(shape_of(x))
    sources, destinations = as_shape(source), as_shape(destination)
    if len(sources) != len(destinations):
        raise AxisError(f"moveaxis: {len(sources)} source axes but {len(destinations)} destinations")
    old = [normalize_axis(a, ndim, "moveaxis") for a in sources]
    new = [normalize_axis(a, ndim, "moveaxis") for a in destinations]
    if len(set(old)) < len(old) or len(set(new)) < len(new):
        raise AxisError(f"moveaxis: {source} to {destination} names an axis twice")
    order = [a for a in range(ndim) if a not in old]
    for to, axis in sorted(zip(new, old, strict=True)):
        order.insert(to, axis)
    return _transpose(x, axes=tuple(order))


def expand_dims(x: ArrayLike, axis: int | tuple[int, ...]) -> Any:
    """`x` with axes of length 1 put in at `axis`, counted in the result.

    >>> import tinygrad_nn as tg
    >>> tg.expand_dims(tg.zeros((2, 3)), (0, -1)).shape
    (1, 2, 3, 1)
    """
    shape = shape_of(x)
    count = len(axis) if isinstance(axis, tuple | list) else 1
    axes = normalize_axes(axis, len(shape) + count, "expand_dims") or ()
    rest = iter(shape)
    return _reshape(x, shape=tuple(1 if i in axes else next(rest) for i in range(len(shape) + count)))


def squeeze(x: ArrayLike, axis: Axis = None) -> Any:
    """`x` without the axes of length 1 named by `axis`, or without all of them.

    >>> import tinygrad_nn as tg
    >>> tg.squeeze(tg.zeros((1, 3, 1)), 0).shape
    (3, 1)
    """
    shape = shape_of(x)
    axes = normalize_axes(axis, len(shape), "squeeze")
    if axes is None:
        axes = tuple(i for i, n in enumerate(shape) if n == 1)
    for a in axes:
        if shape[a] != 1:
            raise ShapeError(f"squeeze: axis {a} of {describe(x)} has length {shape[a]}, not 1")
    return _reshape(x, shape=tuple(n for i, n in enumerate(shape) if i not in axes))


# -- broadcasting ------------------------------------------------------------------------------------------------------


def _stretched(x: Any, *, shape: tuple[int, ...]) -> Any:
    if np.ndim(x) or not isinstance(x, np.ndarray | np.generic):
        return np.broadcast_to(x, shape)
    y: Any = np.ndarray(shape, x.dtype, x, 0, (0,) * len(shape))  # a tenth of the time, and every sum's gradient is one
    y.flags.writeable = False
    return y


_broadcast_to: Fn = linear(
    "broadcast_to",
    _stretched,
    [lambda g, _y, _x, *, shape: _sum_to(g, shape=_x.shape)],
    cases=(case((3,), shape=(2, 3)), case((2, 1), shape=(4, 2, 3)), case((), shape=(2,)), case((1,), shape=(0,))),
    formula="x repeated along new axes and axes of length 1",
    twin=np.broadcast_to,
    batch=batching.broadcast_to,
)


def broadcast_to(x: ArrayLike, shape: Shape) -> Any:
    """`x` stretched to `shape` by NumPy's broadcasting rules, as a read-only view.

    >>> import tinygrad_nn as tg
    >>> tg.broadcast_to(tg.tensor([1.0, 2.0]), (3, 2)).shape
    (3, 2)
    """
    return _broadcast_to(x, shape=as_shape(shape))


def _add_up_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    lead = x.ndim - len(shape)
    kept = x.shape[lead:]
    if lead > 0 and kept == shape:
        return add_up_rows(x, lead)
    if lead < 0 or any(n != m and n != 1 for n, m in zip(shape, kept, strict=True)):
        raise ShapeError(f"sum_to: {describe(x)} did not come from shape {shape} by broadcasting")
    axes = (*range(lead), *(lead + i for i, n in enumerate(shape) if n != kept[i]))
    return np.add.reduce(x, axes).reshape(shape) if axes else x


def add_up_rows(x: Any, lead: int) -> Any:
    """The sum over the first `lead` axes: the gradient of every bias."""
    if lead == 1 and x.ndim == 2:
        n, ones = len(x), _ONES.get(x.dtype.char)
        if n == 1:
            return x[0]
        if ones is not None:  # BLAS adds up the rows of a tall matrix up to 20 times faster
            return (ones[:n] if n <= len(ones) else np.ones(n, x.dtype)).dot(x)
    return np.add.reduce(x, 0 if lead == 1 else tuple(range(lead)))


_ONES = {char: np.ones(4096, char) for char in "fd"}


_sum_to: Fn = linear(
    "sum_to",
    _add_up_to,
    [lambda g, _y, _x, *, shape: _broadcast_to(g, shape=_x.shape)],
    cases=(case((2, 3), shape=(3,)), case((2, 3), shape=(2, 1)), case((2, 3), shape=()), case((2, 3), shape=(2, 3))),
    formula="x added up over the axes that broadcasting from a shape would stretch",
    batch=batching.sum_to,
)


def sum_to(x: ArrayLike, shape: Shape) -> Any:
    """`x` summed to `shape`: the transpose of `broadcast_to`.

    >>> import tinygrad_nn as tg
    >>> tg.sum_to(tg.ones((2, 3)), (3,))
    tensor([2., 2., 2.])
    """
    return _sum_to(x, shape=as_shape(shape))


def broadcast_arrays(*xs: ArrayLike) -> list[Any]:
    """All arguments stretched to their common shape.

    >>> import tinygrad_nn as tg
    >>> [a.shape for a in tg.broadcast_arrays(tg.zeros((2, 1)), tg.zeros(3))]
    [(2, 3), (2, 3)]
    """
    try:
        shape = np.broadcast_shapes(*(shape_of(x) for x in xs))
    except ValueError:
        raise ShapeError(f"broadcast_arrays: {', '.join(describe(x) for x in xs)} do not broadcast") from None
    return [_broadcast_to(x, shape=shape) for x in xs]


# -- dtype and copies --------------------------------------------------------------------------------------------------


def _cast(x: ArrayLike, *, dtype: np.dtype[Any]) -> Any:
    array = np.asarray(x)
    if array.dtype.kind == "c" and dtype.kind in "iuf":
        # Met on the walk back, too, where a real input led to complex numbers: casting would make its gradient wrong.
        raise DTypeError(
            f"astype: {array.dtype} to {dtype} would drop the imaginary part. Take x.data.real or x.data.imag of a "
            "value; gradients cannot pass through complex numbers"
        )
    return array.astype(dtype, copy=False)[()]


_astype: Fn = linear(
    "astype",
    _cast,
    [lambda g, _y, _x, *, dtype: _astype(g, dtype=_x.dtype)],
    cases=(case((2, 3), dtype=np.dtype(np.float64)), case((), dtype=np.dtype(np.float64))),
    formula="x in another dtype",
    batch=batching.leading,
)


def astype(x: ArrayLike, dtype: DTypeLike) -> Any:
    """`x` in another dtype. From one floating dtype to another the gradient flows; others carry none.

    Complex numbers do not become real ones: that is a `DTypeError`.

    >>> import tinygrad_nn as tg
    >>> tg.astype(tg.tensor([1.5, 2.5]), "int64")
    tensor([1, 2])
    """
    target = np.dtype(dtype)
    if target.kind not in "fc" and isinstance(x, Tensor):
        x = x.detach()
    return _astype(x, dtype=target)


_copy: Fn = linear(
    "copy",
    lambda x: np.array(x)[()],
    [lambda g, _y, _x: g],
    cases=(case((2, 3)), case(())),
    formula="a copy of x",
    twin=np.copy,
    batch=batching.leading,
)


def copy(x: ArrayLike) -> Any:
    """A copy of `x` with memory of its own; the gradient flows through.

    >>> import tinygrad_nn as tg
    >>> tg.copy(tg.tensor([1.0]))
    tensor([1.])
    """
    return _copy(x)


# -- joining and splitting ---------------------------------------------------------------------------------------------


def _part(i: int, g: Any, _y: Any, *_xs: Any, axis: int, offsets: tuple[int, ...]) -> Any:
    return g[(slice(None),) * axis + (slice(offsets[i], offsets[i + 1]),)]


_concat: Fn = linear(
    "concat",
    lambda *xs, axis, offsets: np.concatenate(xs, axis),
    Each(_part),
    joint=True,
    cases=(
        case((2, 3), (1, 3), axis=0, offsets=(0, 2, 3)),
        case((2, 3), (2, 0), (2, 1), axis=1, offsets=(0, 3, 3, 4)),
    ),
    formula="arrays one after the other along an axis",
    batch=batching.along,
)


def concat(xs: Sequence[ArrayLike], axis: int | None = 0) -> Any:
    """Arrays joined along an existing axis; with `axis=None` all are flattened first.

    >>> import tinygrad_nn as tg
    >>> tg.concat([tg.zeros(2), tg.ones(1)])
    tensor([0., 0., 1.])
    """
    xs = _sequence("concat", xs)
    if axis is None:
        xs, axis = [_reshape(x, shape=(-1,)) for x in xs], 0
    shapes = [shape_of(x) for x in xs]
    axis = normalize_axis(axis, len(shapes[0]), "concat")
    for shape in shapes:
        if len(shape) != len(shapes[0]) or any(
            n != m for i, (n, m) in enumerate(zip(shape, shapes[0], strict=True)) if i != axis
        ):
            raise ShapeError(f"concat: shapes {shapes[0]} and {shape} differ outside axis {axis}")
    return _concat(*xs, axis=axis, offsets=(0, *itertools.accumulate(shape[axis] for shape in shapes)))


_stack: Fn = linear(
    "stack",
    lambda *xs, axis: np.stack(xs, axis),
    Each(lambda i, g, _y, *_xs, axis: g[(slice(None),) * axis + (i,)]),
    joint=True,
    cases=(case((2, 3), (2, 3), axis=0), case((2, 3), (2, 3), (2, 3), axis=2), case((), (), axis=0)),
    formula="arrays side by side along a new axis",
    batch=batching.along,
)


def stack(xs: Sequence[ArrayLike], axis: int = 0) -> Any:
    """Arrays of one shape joined along a new axis.

    >>> import tinygrad_nn as tg
    >>> tg.stack([tg.zeros(2), tg.ones(2)], axis=1)
    tensor([[0., 1.],
            [0., 1.]])
    """
    xs = _sequence("stack", xs)
    shapes = [shape_of(x) for x in xs]
    for shape in shapes:
        if shape != shapes[0]:
            raise ShapeError(f"stack: shapes {shapes[0]} and {shape} differ")
    return _stack(*xs, axis=normalize_axis(axis, len(shapes[0]) + 1, "stack"))


def _sequence(name: str, xs: Sequence[ArrayLike]) -> list[Any]:
    if isinstance(xs, Tensor | np.ndarray):
        xs = list(xs)
    if not isinstance(xs, list | tuple) or not xs:
        raise ArgumentError(f"{name}: needs a list of at least one array, not {describe(xs)}")
    return [x if isinstance(x, Tensor | np.ndarray) else constant(x) for x in xs]


def split(x: ArrayLike, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """`x` cut along an axis: into equal parts, or at the given positions. The parts are views.

    >>> import tinygrad_nn as tg
    >>> [p.tolist() for p in tg.split(tg.arange(5), [2, 3])]
    [[0, 1], [2], [3, 4]]
    """
    if not isinstance(x, Tensor):
        x = np.asarray(constant(x))
    axis = normalize_axis(axis, x.ndim, "split")
    length = x.shape[axis]
    if isinstance(indices_or_sections, Sequence | np.ndarray):
        cuts = list(as_shape(indices_or_sections))
    else:
        parts = operator.index(indices_or_sections)
        if parts < 1 or length % parts:
            raise ShapeError(f"split: axis {axis} of {describe(x)} cannot be cut into {parts} equal parts")
        cuts = [length // parts * i for i in range(1, parts)]
    before = (slice(None),) * axis
    return [x[(*before, slice(a, b))] for a, b in itertools.pairwise([0, *cuts, length])]


def unstack(x: ArrayLike, axis: int = 0) -> list[Any]:
    """The slices of `x` along an axis, that axis gone.

    >>> import tinygrad_nn as tg
    >>> [p.tolist() for p in tg.unstack(tg.eye(2))]
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if not isinstance(x, Tensor):
        x = np.asarray(constant(x))
    axis = normalize_axis(axis, x.ndim, "unstack")
    return [x[(slice(None),) * axis + (i,)] for i in range(x.shape[axis])]


# -- padding, turning, cutting triangles -------------------------------------------------------------------------------


def _inside(widths: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(low, low + n) for (low, _), n in zip(widths, shape, strict=True))


_pad: Fn = general(
    "pad",
    lambda x, *, widths, value: np.pad(x, widths, constant_values=value),
    [lambda g, _y, _x, *, widths, value: g[_inside(widths, _x.shape)]],
    [lambda t, _y, _x, *, widths, value: _pad(t, widths=widths, value=0)],
    cases=(
        case((2, 3), widths=((1, 0), (0, 2)), value=0.0),
        case((3,), widths=((2, 1),), value=1.5),
        case((0,), widths=((1, 1),), value=0.0),
    ),
    formula="x with a constant border",
    batch=batching.pad,
)


def pad(x: ArrayLike, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Any:
    """`x` with a border: `pad_width` is n, (before, after), or one such pair per axis, as in NumPy.

    `mode` is "constant", or any of NumPy's modes that copy elements: "edge", "reflect", "symmetric", "wrap".

    >>> import tinygrad_nn as tg
    >>> tg.pad(tg.tensor([1.0, 2.0, 3.0]), (1, 2), mode="reflect")
    tensor([2., 1., 2., 3., 2., 1.])
    """
    if not isinstance(x, Tensor):
        x = np.asarray(constant(x))
    try:
        pairs = np.broadcast_to(np.asarray(pad_width, np.intp), (x.ndim, 2)).tolist()
    except (TypeError, ValueError):
        raise ShapeError(
            f"pad: pad_width {pad_width} does not give (before, after) for the axes of {describe(x)}"
        ) from None
    if any(n < 0 for pair in pairs for n in pair):
        raise ArgumentError(f"pad: pad_width {pad_width} has a negative width; slice to make an array smaller")
    widths = tuple(tuple(pair) for pair in pairs)
    if mode == "constant":
        return _pad(x, widths=widths, value=constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ArgumentError(f"pad: mode {mode!r} is not one of constant, edge, reflect, symmetric, wrap")
    for axis, (n, width) in enumerate(zip(x.shape, widths, strict=True)):
        if any(width):
            copied: Any = np.pad(np.arange(n), width, mode=mode)  # type: ignore[call-overload]  # mode is checked above
            x = x[(slice(None),) * axis + (copied,)]
    return x


_flip: Fn = linear(
    "flip",
    lambda x, *, axis: np.flip(x, axis),
    [lambda g, _y, _x, *, axis: _flip(g, axis=axis)],
    cases=(case((2, 3), axis=(0,)), case((2, 3), axis=(0, 1)), case((3,), axis=None), case((), axis=None)),
    formula="x backwards",
    batch=batching.along,
)


def flip(x: ArrayLike, axis: Axis = None) -> Any:
    """`x` in reverse order along the axes, or along all. The result is a view.

    >>> import tinygrad_nn as tg
    >>> tg.flip(tg.tensor([1, 2, 3]))
    tensor([3, 2, 1])
    """
    return _flip(x, axis=normalize_axes(axis, len(shape_of(x)), "flip"))


_roll: Fn = linear(
    "roll",
    lambda x, *, shift, axis: np.roll(x, shift, axis),
    [lambda g, _y, _x, *, shift, axis: _roll(g, shift=tuple(-s for s in shift), axis=axis)],
    cases=(
        case((2, 3), shift=(1,), axis=(1,)),
        case((2, 3), shift=(2, -1), axis=(0, 1)),
        case((4,), shift=(6,), axis=(0,)),
    ),
    formula="x moved round",
    batch=batching.along,
)


def roll(x: ArrayLike, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Any:
    """`x` moved by `shift` places along `axis`; what falls off one end comes in at the other.

    Without `axis`, the flattened array is rolled.

    >>> import tinygrad_nn as tg
    >>> tg.roll(tg.tensor([1, 2, 3]), 1)
    tensor([3, 1, 2])
    """
    if axis is None:
        return _reshape(roll(_reshape(x, shape=(-1,)), shift, 0), shape=shape_of(x))
    axes = tuple(normalize_axis(a, len(shape_of(x)), "roll") for a in as_shape(axis))
    shifts = as_shape(shift)
    if len(shifts) == 1:
        shifts *= len(axes)
    if len(shifts) != len(axes):
        raise ArgumentError(f"roll: {len(shifts)} shifts for {len(axes)} axes")
    return _roll(x, shift=shifts, axis=axes)


_tril: Fn = linear(
    "tril",
    lambda x, *, k: np.tril(x, k),
    [lambda g, _y, _x, *, k: _tril(g, k=k)],
    cases=(case((3, 4), k=0), case((2, 3, 3), k=-1)),
    formula="x with zeros above the k-th diagonal",
    selects=UNUSED,
    twin=np.tril,
    batch=batching.leading,
)
_triu: Fn = linear(
    "triu",
    lambda x, *, k: np.triu(x, k),
    [lambda g, _y, _x, *, k: _triu(g, k=k)],
    cases=(case((3, 4), k=0), case((2, 3, 3), k=1)),
    formula="x with zeros below the k-th diagonal",
    selects=UNUSED,
    twin=np.triu,
    batch=batching.leading,
)


def tril(x: ArrayLike, k: int = 0) -> Any:
    """The lower triangle of the last two axes: zeros above the k-th diagonal.

    >>> import tinygrad_nn as tg
    >>> tg.tril(tg.ones((2, 2)))
    tensor([[1., 0.],
            [1., 1.]])
    """
    return _tril(_matrix("tril", x), k=operator.index(k))


def triu(x: ArrayLike, k: int = 0) -> Any:
    """The upper triangle of the last two axes: zeros below the k-th diagonal.

    >>> import tinygrad_nn as tg
    >>> tg.triu(tg.ones((2, 2)))
    tensor([[1., 1.],
            [0., 1.]])
    """
    return _triu(_matrix("triu", x), k=operator.index(k))


def _matrix(name: str, x: ArrayLike) -> ArrayLike:
    if len(shape_of(x)) < 2:
        raise ShapeError(f"{name}: {describe(x)} has fewer than two axes")
    return x


def repeat(x: ArrayLike, repeats: int | Sequence[int], axis: int | None = None) -> Any:
    """Each element (or slice along `axis`) `repeats` times in a row; without `axis`, of the flattened array.

    >>> import tinygrad_nn as tg
    >>> tg.repeat(tg.tensor([1, 2]), 2)
    tensor([1, 1, 2, 2])
    """
    if axis is None:
        return repeat(_reshape(x, shape=(-1,)), repeats, 0)
    if not isinstance(x, Tensor):
        x = np.asarray(constant(x))
    axis = normalize_axis(axis, x.ndim, "repeat")
    try:
        chosen = np.repeat(np.arange(x.shape[axis]), repeats)
    except (TypeError, ValueError) as error:
        raise operation_error("repeat", (x, repeats), error) from None
    index: Any = (slice(None),) * axis + (chosen,)
    return x[index]


def tile(x: ArrayLike, repetitions: int | Sequence[int]) -> Any:
    """The whole of `x` laid side by side `repetitions` times along each axis.

    >>> import tinygrad_nn as tg
    >>> tg.tile(tg.tensor([1, 2]), 2)
    tensor([1, 2, 1, 2])
    """
    counts = as_shape(repetitions)
    shape = shape_of(x)
    ndim = max(len(shape), len(counts))
    shape = (1,) * (ndim - len(shape)) + shape
    counts = (1,) * (ndim - len(counts)) + counts
    spread = _broadcast_to(
        _reshape(x, shape=tuple(k for n in shape for k in (1, n))),
        shape=tuple(k for c, n in zip(counts, shape, strict=True) for k in (c, n)),
    )
    return _reshape(spread, shape=tuple(c * n for c, n in zip(counts, shape, strict=True)))
