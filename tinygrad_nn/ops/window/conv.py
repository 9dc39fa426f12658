"""Convolution, as three bilinear operations that are each other's derivatives.

With y = conv2d(x, w), the number <t, y> is linear in each of x, w and t. Its derivative by t is conv2d(x, w), by x is
conv2d_input(t, w), and by w is conv2d_weight(x, t). Every rule of every order is one of these three.

Shapes are PyTorch's (images, channels, rows, columns), but in memory *the images come last*: results are transposed
views of arrays laid out (channels, rows, columns, images). Then

- the window positions of all images, gathered as a matrix (channels·kernel, positions), consist of long runs;
- that matrix needs one product with the weights exactly as they are stored, whose result has this layout again;
- element-by-element operations keep the layout, pooling finds runs of whole batches in it, and flattening for a
  linear layer is free: BLAS reads a transposed matrix as fast as another.

Only the images that enter the first layer are copied into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..._types import Array, ArrayLike
from ...domains import case
from ...errors import ArgumentError, ShapeError, describe
from .. import batching
from ..declare import general, linear
from ..reduce import sum as sum_
from ..shape import broadcast_to, expand_dims, reshape, shape_of, squeeze
from .geometry import Pair, PairLike, pair, span

Padding: TypeAlias = tuple[Pair, Pair]  # (top, bottom), (left, right)

_BLOCK = 1 << 22  # bytes of gathered windows at a time, so that they stay in cache between gathering and product


def _images_last(x: Any, padding: Padding, dtype: Any) -> Array:
    """`x` as a contiguous array (channels, rows, columns, images), with zeros around it."""
    x = x.transpose(1, 2, 3, 0)
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return np.ascontiguousarray(x, dtype)
    channels, rows, columns, images = x.shape
    padded = np.zeros_like(x, dtype, "C", shape=(channels, rows + top + bottom, columns + left + right, images))
    padded[:, top : top + rows, left : left + columns] = x
    return padded


def _computed_in(*arrays: Any) -> tuple[Any, Any]:
    """The dtype of the result, and the one to compute in: half precision sums lose too much, and are slow."""
    dtype = np.result_type(*arrays)
    return dtype, np.float32 if dtype == np.float16 else dtype


def _out_size(size: Pair, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Pair:
    rows, columns = (
        (size[a] + padding[a][0] + padding[a][1] - span(kernel[a], dilation[a])) // stride[a] + 1 for a in (0, 1)
    )
    return rows, columns


def _blocks(rows: int, bytes_per_row: int) -> Iterator[slice]:
    """The output rows in groups whose windows together take about `_BLOCK` bytes."""
    step = max(1, _BLOCK // max(1, bytes_per_row))
    return (slice(r, min(r + step, rows)) for r in range(0, rows, step))


def _windows(x: Array, kernel: Pair, stride: Pair, dilation: Pair, groups: int) -> Iterator[tuple[slice, Array]]:
    """Block by block of output rows, the windows as matrices (groups, channels·kernel, rows·columns·images)."""
    spans = span(kernel[0], dilation[0]), span(kernel[1], dilation[1])
    positions = sliding_window_view(x, spans, axis=(1, 2))[
        :, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]
    ].transpose(0, 4, 5, 1, 2, 3)
    depth, (rows, columns, images) = x.shape[0] * kernel[0] * kernel[1], positions.shape[3:]
    for block in _blocks(rows, depth * columns * images * x.itemsize):
        width = (block.stop - block.start) * columns * images
        yield block, positions[:, :, :, block].reshape(groups, depth // groups, width)


def _matrices(y: Array, rows: slice, groups: int) -> Array:
    """Some rows of (channels, rows, columns, images) as matrices (groups, channels, rows·columns·images): a view."""
    channels, _, columns, images = y.shape
    return y[:, rows].reshape(groups, channels // groups, (rows.stop - rows.start) * columns * images)


def _forward(x: Any, w: Any, b: Any = None, *, stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Any:
    dtype, inner = _computed_in(x, w) if b is None else _computed_in(x, w, b)
    kernel = w.shape[2:]
    out = _out_size(x.shape[2:], kernel, stride, padding, dilation)
    y = np.empty_like(w, inner, "C", shape=(w.shape[0], *out, x.shape[0]))
    weights = w.reshape(groups, w.shape[0] // groups, -1).astype(inner, copy=False)
    for rows, windows in _windows(_images_last(x, padding, inner), kernel, stride, dilation, groups):
        np.matmul(weights, windows, out=_matrices(y, rows, groups))
    if b is not None:
        y += b[:, None, None, None]
    return y.astype(dtype, copy=False).transpose(3, 0, 1, 2)


def _by_input(g: Any, w: Any, *, stride: Pair, padding: Padding, dilation: Pair, groups: int, size: Pair) -> Any:
    dtype, inner = _computed_in(g, w)
    (top, bottom), (left, right) = padding
    images, features, *out = g.shape
    channels, kernel = w.shape[1] * groups, w.shape[2:]
    g = _images_last(g, ((0, 0), (0, 0)), inner)
    x = np.zeros_like(g, shape=(channels, size[0] + top + bottom, size[1] + left + right, images))
    weights = w.reshape(groups, features // groups, -1).astype(inner, copy=False).transpose(0, 2, 1)
    product = np.multiply if features == groups else np.matmul  # the same, and faster, for an inner length of 1
    for rows in _blocks(out[0], channels * kernel[0] * kernel[1] * out[1] * images * x.itemsize):
        count = rows.stop - rows.start
        windows = product(weights, _matrices(g, rows, groups)).reshape(channels, *kernel, count, out[1], images)
        for i in range(kernel[0]):
            first = rows.start * stride[0] + i * dilation[0]
            for j in range(kernel[1]):
                into = x[:, first :: stride[0], j * dilation[1] :: stride[1]][:, :count, : out[1]]
                into += windows[:, i, j]
    x = x[:, top : top + size[0], left : left + size[1]]
    return x.astype(dtype, copy=False).transpose(3, 0, 1, 2)


def _by_weight(x: Any, g: Any, *, stride: Pair, padding: Padding, dilation: Pair, groups: int, kernel: Pair) -> Any:
    dtype, inner = _computed_in(x, g)
    features = g.shape[1]
    g = _images_last(g, ((0, 0), (0, 0)), inner)
    w = np.zeros_like(g, shape=(features, x.shape[1] // groups, *kernel))
    total = w.reshape(groups, features // groups, -1)
    for rows, windows in _windows(_images_last(x, padding, inner), kernel, stride, dilation, groups):
        total += _matrices(g, rows, groups) @ windows.transpose(0, 2, 1)
    return w.astype(dtype, copy=False)


def _pull_input(g: Any, _y: Any, _x: Any, w: Any, **how: Any) -> Any:
    return _conv2d_input(g, w, size=tuple(_x.shape[2:]), **how)


def _pull_weight(g: Any, _y: Any, x: Any, _w: Any, **how: Any) -> Any:
    return _conv2d_weight(x, g, kernel=tuple(_w.shape[2:]), **how)


def _push_bias(t: Any, _y: Any, _x: Any, _w: Any, _b: Any, **how: Any) -> Any:
    del how["groups"]
    size = _out_size(_x.shape[2:], _w.shape[2:], **how)
    return broadcast_to(reshape(t, (-1, 1, 1)), (_x.shape[0], _w.shape[0], *size))


def _how(stride: Pair = (1, 1), padding: Padding = ((0, 0), (0, 0)), dilation: Pair = (1, 1), groups: int = 1) -> Any:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


_STRIDED = _how(stride=(2, 1), padding=((1, 1), (0, 0)))
_GROUPED = _how(padding=((0, 0), (1, 2)), dilation=(1, 2), groups=2)

_conv2d = linear(
    "conv2d",
    _forward,
    [_pull_input, _pull_weight],
    cases=(
        case((2, 2, 4, 4), (3, 2, 2, 3), **_how()),
        case((2, 1, 5, 4), (2, 1, 2, 2), **_STRIDED),
        case((1, 4, 3, 4), (2, 2, 2, 2), **_GROUPED),
        case((0, 1, 3, 3), (2, 1, 2, 2), **_how()),
    ),
    formula="y[n,o,r,s] = Σ x[n, c, r·stride + i·dilation, s·stride + j·dilation] · w[o,c,i,j]",
    batch=batching.convolution,
)
_conv2d_input: Any = linear(
    "conv2d_input",
    _by_input,
    [
        lambda t, _y, _g, w, *, size, **how: _conv2d(t, w, **how),
        lambda t, _y, g, _w, *, size, **how: _conv2d_weight(t, g, kernel=tuple(_w.shape[2:]), **how),
    ],
    cases=(
        case((2, 3, 3, 2), (3, 2, 2, 3), size=(4, 4), **_how()),
        case((2, 2, 3, 3), (2, 1, 2, 2), size=(5, 4), **_STRIDED),
        case((1, 2, 2, 5), (2, 2, 2, 2), size=(3, 4), **_GROUPED),
    ),
    formula="the gradient of <g, conv2d(x, w)> by x",
    batch=batching.convolution_input,
)
_conv2d_weight: Any = linear(
    "conv2d_weight",
    _by_weight,
    [
        lambda t, _y, _x, g, *, kernel, **how: _conv2d_input(g, t, size=tuple(_x.shape[2:]), **how),
        lambda t, _y, x, _g, *, kernel, **how: _conv2d(x, t, **how),
    ],
    cases=(
        case((2, 2, 4, 4), (2, 3, 3, 2), kernel=(2, 3), **_how()),
        case((2, 1, 5, 4), (2, 2, 3, 3), kernel=(2, 2), **_STRIDED),
        case((1, 4, 3, 4), (1, 2, 2, 5), kernel=(2, 2), **_GROUPED),
    ),
    formula="the gradient of <g, conv2d(x, w)> by w",
    batch=batching.convolution_weight,
)
_conv2d_bias = general(
    "conv2d_bias",
    _forward,
    [
        lambda g, _y, _x, w, _b, **how: _pull_input(g, None, _x, w, **how),
        lambda g, _y, x, _w, _b, **how: _pull_weight(g, None, x, _w, **how),
        lambda g, _y, _x, _w, _b, **_how: sum_(g, axis=(0, 2, 3)),
    ],
    [
        lambda t, _y, _x, w, _b, **how: _conv2d(t, w, **how),
        lambda t, _y, x, _w, _b, **how: _conv2d(x, t, **how),
        _push_bias,
    ],
    cases=(
        case((2, 2, 4, 4), (3, 2, 2, 3), (3,), **_how()),
        case((2, 1, 5, 4), (2, 1, 2, 2), (2,), **_STRIDED),
        case((1, 4, 3, 4), (2, 2, 2, 2), (2,), **_GROUPED),
    ),
    formula="conv2d(x, w) + b[o]",
    products=True,
    analytic=True,
    batch=batching.convolution,
)


def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: PairLike = 1,
    padding: PairLike | Literal["same", "valid"] = 0,
    dilation: PairLike = 1,
    groups: int = 1,
) -> Any:
    """Each output channel is the sum over windows of `x` times its `weight`, plus its `bias` (cross-correlation).

    `x` has shape (images, channels, rows, columns), or (channels, rows, columns) for one image; `weight` has shape
    (out channels, channels / groups, kernel rows, kernel columns), `bias` (out channels,). `padding` puts zeros
    around the image; "same" puts as many as keep its size, "valid" none. With `groups`, the channels are divided into
    that many parts that do not mix. An output axis has ⌊(size + 2·padding - dilation·(kernel - 1) - 1) / stride⌋ + 1
    elements. The result is a view of memory in which the images are the last axis.

    Raises `ShapeError` where the shapes do not fit together or the window is larger than the padded image.

    >>> import tinygrad_nn as tg
    >>> import tinygrad_nn.nn.functional as F
    >>> x = tg.reshape(tg.arange(9.0), (1, 1, 3, 3))
    >>> F.conv2d(x, tg.ones((1, 1, 2, 2)))
    tensor([[[[ 8., 12.],
              [20., 24.]]]])
    """
    shape, weight_shape = shape_of(x), shape_of(weight)
    if len(shape) not in (3, 4) or len(weight_shape) != 4:
        raise ShapeError(
            f"conv2d: x {describe(x)} must have axes (images, channels, rows, columns) or (channels, rows, columns), "
            f"and weight {describe(weight)} axes (out channels, channels, rows, columns)"
        )
    if len(shape) == 3:
        return squeeze(conv2d(expand_dims(x, 0), weight, bias, stride, padding, dilation, groups), 0)
    if groups < 1 or weight_shape[0] % groups:
        raise ArgumentError(
            f"conv2d: groups={groups} must divide the {weight_shape[0]} output channels of {describe(weight)}"
        )
    if shape[1] != weight_shape[1] * groups:
        raise ShapeError(
            f"conv2d: x {describe(x)} has {shape[1]} channels (axis 1), but weight {describe(weight)} with "
            f"groups={groups} takes {weight_shape[1]}·{groups} = {weight_shape[1] * groups}"
        )
    if bias is not None and shape_of(bias) != weight_shape[:1]:
        raise ShapeError(
            f"conv2d: bias {describe(bias)} must have shape {weight_shape[:1]}, one for each output channel"
        )
    size, kernel = (shape[2], shape[3]), (weight_shape[2], weight_shape[3])
    steps, gaps = pair(stride, "conv2d", "stride"), pair(dilation, "conv2d", "dilation")
    zeros = _zeros_around(padding, kernel, steps, gaps)
    if min(kernel) < 1 or min(_out_size(size, kernel, steps, zeros, gaps)) < 1:
        padded = tuple(n + sum(z) for n, z in zip(size, zeros, strict=True))
        covered = span(kernel[0], gaps[0]), span(kernel[1], gaps[1])
        raise ShapeError(
            f"conv2d: weight {describe(weight)} with dilation {gaps} covers windows of {covered}, which must be "
            f"at least 1 and at most the image of x {describe(x)} with its padding, {padded}"
        )
    how = _how(steps, zeros, gaps, groups)
    return _conv2d(x, weight, **how) if bias is None else _conv2d_bias(x, weight, bias, **how)


def _zeros_around(padding: PairLike | str, kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    if not isinstance(padding, str):
        rows, columns = pair(padding, "conv2d", "padding", least=0)
        return (rows, rows), (columns, columns)
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        raise ArgumentError(f"conv2d: padding must be integers, 'same' or 'valid', not {padding!r}")
    if stride != (1, 1):
        raise ArgumentError(f"conv2d: padding='same' keeps the size only with stride 1, not {stride}")
    rows, columns = (span(k, d) - 1 for k, d in zip(kernel, dilation, strict=True))
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
