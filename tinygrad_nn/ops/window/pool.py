"""Pooling: the largest or the mean element of each window. Any memory order goes in, and the same comes out.

Windows are not gathered: for each position inside a window (`taps`), one strided slice of the image holds that
element of every window.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..._types import ArrayLike
from ...domains import Integers, Reals, case
from ...errors import ArgumentError, ShapeError, describe
from ...registry import SATURATED
from .. import batching
from ..declare import general, linear, nondifferentiable
from ..shape import shape_of
from .geometry import Pair, PairLike, pair, span, taps


def _like(x: Any, size: Pair, dtype: Any = None) -> Any:
    """A new array in the memory order of `x`, with other last two axes."""
    return np.empty_like(x, dtype=dtype, shape=(*x.shape[:-2], *size))


def _in_order_of(model: Any, x: Any) -> Any:
    """`x` in the memory order of `model`, of the same shape: mixing two orders costs more than a copy."""
    ordered = np.empty_like(model, dtype=x.dtype)
    if ordered.strides == x.strides:
        return x
    ordered[...] = x
    return ordered


def _disjoint(kernel: Pair, stride: Pair, dilation: Pair) -> bool:
    return all(span(k, d) <= s for k, s, d in zip(kernel, stride, dilation, strict=True))


# -- the largest -------------------------------------------------------------------------------------------------------


def _largest(x: Any, *, out: Pair, **window: Any) -> Any:
    y = _like(x, out)
    places = taps(x.shape[-2:], out, **window)
    if window["padding"] == (0, 0):  # then the first element of every window lies inside the image
        y[...] = x[places[0][0]]
        places = places[1:]
    else:
        y.fill(-np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min)
    for inputs, outputs in places:
        part = y[outputs]
        np.maximum(part, x[inputs], out=part)
    return y


def _first_largest(x: Any, y: Any, *, out: Pair, **window: Any) -> Any:
    """For each window, the number of its first position that holds the maximum: how many positions came before.

    The last position is not looked at: it is what remains (also where the maximum is NaN, which equals nothing).
    """
    places = taps(x.shape[-2:], out, **window)
    position = np.zeros_like(y, dtype=np.min_scalar_type(len(places)))
    searching = np.ones_like(y, dtype=bool)
    for inputs, outputs in places[:-1]:
        part = searching[outputs]
        np.logical_and(part, x[inputs] != y[outputs], out=part)
        position += searching
    return position


def _several_largest(y: Any, x: Any, *, out: Pair, **window: Any) -> Any:
    """Which windows hold their maximum more than once."""
    count = np.zeros_like(y, dtype=np.intp)
    for inputs, outputs in taps(x.shape[-2:], out, **window):
        count[outputs] += x[inputs] == y[outputs]
    return count > 1


def _to_position(g: Any, position: Any, *, size: Pair, **window: Any) -> Any:
    kernel, stride, dilation = window["kernel"], window["stride"], window["dilation"]
    out = position.shape[-2:]
    g = _in_order_of(position, g)
    disjoint = _disjoint(kernel, stride, dilation)
    x = _like(position, size, g.dtype)
    if not disjoint or (out[0] * kernel[0], out[1] * kernel[1]) != size:
        x.fill(0)
    for number, (inputs, outputs) in enumerate(taps(size, out, **window)):
        chosen = position[outputs] == number
        if disjoint:
            np.multiply(g[outputs], chosen, out=x[inputs])
        else:
            x[inputs] += g[outputs] * chosen
    return x


def _at_position(x: Any, position: Any, **window: Any) -> Any:
    y = np.zeros_like(position, dtype=x.dtype)
    for number, (inputs, outputs) in enumerate(taps(x.shape[-2:], position.shape[-2:], **window)):
        np.copyto(y[outputs], x[inputs], where=position[outputs] == number)
    return y


def _max_vjp(g: Any, y: Any, x: Any, *, out: Pair, **window: Any) -> Any:
    position = _max_pool2d_position(x, y, out=out, **window)
    return _max_pool2d_input(g, position, size=tuple(x.shape[-2:]), **window)


def _max_jvp(t: Any, y: Any, x: Any, *, out: Pair, **window: Any) -> Any:
    return _max_pool2d_read(t, _max_pool2d_position(x, y, out=out, **window), **window)


def _steps(kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> dict[str, Pair]:
    return {"kernel": kernel, "stride": stride, "padding": padding}


_TILES = {**_steps((2, 2), (2, 2)), "dilation": (1, 1)}
_OVERLAPPING = {**_steps((3, 2), (2, 1), (1, 0)), "dilation": (1, 1)}
_SPREAD_OUT = {**_steps((2, 2), (1, 3), (0, 1)), "dilation": (2, 1)}
_FIRST = "the whole gradient goes to the first maximum of a window, row by row"

_max_pool2d = general(
    "max_pool2d",
    _largest,
    [_max_vjp],
    [_max_jvp],
    domain=[Reals(distinct=True)],
    cases=(
        case((1, 2, 4, 4), out=(2, 2), **_TILES),
        case((2, 1, 5, 3), out=(3, 2), **_OVERLAPPING),
        case((3, 4, 4), out=(2, 2), **_SPREAD_OUT),
    ),
    ties=_FIRST,
    kink=_several_largest,
    formula="the largest element of each window",
    selects=SATURATED,
    batch=batching.leading,
)
_max_pool2d_position = nondifferentiable(
    "max_pool2d_position",
    _first_largest,
    domain=(Reals(), Reals()),
    cases=(
        case((1, 2, 4, 4), (1, 2, 2, 2), out=(2, 2), **_TILES),
        case((2, 1, 5, 3), (2, 1, 3, 2), out=(3, 2), **_OVERLAPPING),
    ),
    formula="the number of the first position in each window of x that holds its maximum y",
    batch=batching.leading,
)


def _never(_t: Any, _y: Any, _x: Any, _position: Any, **_window: Any) -> Any:
    raise AssertionError("positions are integers: nothing asks for their gradient")  # pragma: no cover


_max_pool2d_input = linear(
    "max_pool2d_input",
    _to_position,
    [lambda t, _y, _g, position, *, size, **window: _max_pool2d_read(t, position, **window), _never],
    domain=(Reals(), Integers(0, 4)),
    cases=(
        case((2, 1, 2, 2), (2, 1, 2, 2), size=(4, 5), **_TILES),
        case((1, 2, 3, 2), (1, 2, 3, 2), size=(5, 3), **_OVERLAPPING),
    ),
    formula="the gradient of <g, max_pool2d(x)> by x",
    batch=batching.leading,
)
_max_pool2d_read: Any = linear(
    "max_pool2d_read",
    _at_position,
    [
        lambda g, _y, _x, position, **window: _max_pool2d_input(g, position, size=tuple(_x.shape[-2:]), **window),
        _never,
    ],
    domain=(Reals(), Integers(0, 4)),
    cases=(
        case((2, 1, 4, 5), (2, 1, 2, 2), **_TILES),
        case((1, 2, 5, 3), (1, 2, 3, 2), **_OVERLAPPING),
    ),
    formula="the element at a numbered position of each window",
    batch=batching.leading,
)


def max_pool2d(
    x: ArrayLike,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PairLike = 0,
    dilation: PairLike = 1,
    ceil_mode: bool = False,
) -> Any:
    """The largest element of each window over the last two axes; NaN where a window holds one.

    `x` has shape (images, channels, rows, columns) or (channels, rows, columns). Windows of `kernel_size` elements,
    `dilation` apart, start every `stride` elements (default: `kernel_size`); `padding`, at most half a window, lets
    them begin outside the image, where nothing is ever the largest. With `ceil_mode`, windows that reach over the far
    edges count too. The gradient goes to the first maximum of a window, row by row.

    >>> import tinygrad_nn as tg
    >>> import tinygrad_nn.nn.functional as F
    >>> F.max_pool2d(tg.reshape(tg.arange(16.0), (1, 4, 4)), 2)
    tensor([[[ 5.,  7.],
             [13., 15.]]])
    """
    window, out = _placed("max_pool2d", x, kernel_size, stride, padding, dilation, ceil_mode)
    return _max_pool2d(x, out=out, **window)


# -- the mean ----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _counts(size: Pair, out: Pair, kernel: Pair, stride: Pair, padding: Pair, include_pad: bool) -> Any:
    """By what to divide the sum of each window: a number where all windows count alike, else an array."""
    along = []
    for axis in (0, 1):
        start = np.arange(out[axis]) * stride[axis] - padding[axis]
        stop = np.minimum(start + kernel[axis], size[axis] + padding[axis])
        along.append(stop - start if include_pad else np.minimum(stop, size[axis]) - np.maximum(start, 0))
    counts = np.multiply.outer(*along)
    return int(counts.flat[0]) if (counts == counts.flat[0]).all() else counts


def _divided(sums: Any, size: Pair, out: Pair, include_pad: bool, divisor: int | None, **window: Any) -> Any:
    counts = divisor if divisor is not None else _counts(size, out, include_pad=include_pad, **window)
    return sums / (counts if isinstance(counts, int) else counts.astype(sums.dtype))


def _mean(x: Any, *, out: Pair, include_pad: bool, divisor: int | None, **window: Any) -> Any:
    size = x.shape[-2:]
    sums = _like(x, out, np.result_type(x, np.float32))  # half precision sums lose too much
    sums.fill(0)
    for inputs, outputs in taps(size, out, dilation=(1, 1), **window):
        sums[outputs] += x[inputs]
    y = _divided(sums, size, out, include_pad, divisor, **window)
    return y.astype(x.dtype, copy=False) if x.dtype.kind in "fc" else y


def _shared_out(g: Any, *, size: Pair, include_pad: bool, divisor: int | None, **window: Any) -> Any:
    out = g.shape[-2:]
    shares = _divided(g, size, out, include_pad, divisor, **window)
    if g.ndim == 4:  # images last, like the results of convolution, which the gradient is most likely to meet next
        shares = np.ascontiguousarray(shares.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    x = _like(shares, size)
    x.fill(0)
    for inputs, outputs in taps(size, out, dilation=(1, 1), **window):
        x[inputs] += shares[outputs]
    return x


_MEANS = (
    ((2, 1, 4, 4), (2, 2), {**_steps((2, 2), (2, 2)), "include_pad": True, "divisor": None}),
    ((1, 2, 5, 3), (3, 4), {**_steps((3, 2), (2, 1), (1, 1)), "include_pad": True, "divisor": None}),
    ((2, 5, 3), (3, 4), {**_steps((3, 2), (2, 1), (1, 1)), "include_pad": False, "divisor": None}),
    ((1, 1, 3, 3), (2, 2), {**_steps((2, 2), (2, 2)), "include_pad": True, "divisor": None}),
    ((1, 1, 3, 3), (2, 2), {**_steps((2, 2), (1, 1)), "include_pad": True, "divisor": 3}),
)

_avg_pool2d = linear(
    "avg_pool2d",
    _mean,
    [lambda g, _y, _x, *, out, **how: _avg_pool2d_input(g, size=tuple(_x.shape[-2:]), **how)],
    cases=tuple(case(shape, out=out, **how) for shape, out, how in _MEANS),
    formula="the mean of each window",
    batch=batching.leading,
)
_avg_pool2d_input: Any = linear(
    "avg_pool2d_input",
    _shared_out,
    [lambda t, _y, _g, *, size, **how: _avg_pool2d(t, out=tuple(_g.shape[-2:]), **how)],
    cases=tuple(case((*shape[:-2], *out), size=shape[-2:], **how) for shape, out, how in _MEANS),
    formula="the gradient of <g, avg_pool2d(x)> by x",
    batch=batching.leading,
)


def avg_pool2d(
    x: ArrayLike,
    kernel_size: PairLike,
    stride: PairLike | None = None,
    padding: PairLike = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window over the last two axes.

    `x` has shape (images, channels, rows, columns) or (channels, rows, columns). Windows of `kernel_size` elements
    start every `stride` elements (default: `kernel_size`); `padding` puts up to half a window of zeros around the
    image, which count as elements unless `count_include_pad` is false. With `ceil_mode`, windows that reach over the
    far edges count too, with the elements they have. `divisor_override` is what to divide each sum by instead.

    >>> import tinygrad_nn as tg
    >>> import tinygrad_nn.nn.functional as F
    >>> F.avg_pool2d(tg.reshape(tg.arange(16.0), (1, 4, 4)), 2)
    tensor([[[ 2.5,  4.5],
             [10.5, 12.5]]])
    """
    if divisor_override is not None and divisor_override == 0:
        raise ArgumentError("avg_pool2d: divisor_override must not be 0")
    steps, out = _placed("avg_pool2d", x, kernel_size, stride, padding, 1, ceil_mode)
    del steps["dilation"]
    return _avg_pool2d(x, out=out, include_pad=count_include_pad, divisor=divisor_override, **steps)


# -- where the windows are ---------------------------------------------------------------------------------------------


def _placed(
    name: str,
    x: ArrayLike,
    kernel_size: PairLike,
    stride: PairLike | None,
    padding: PairLike,
    dilation: PairLike,
    ceil_mode: bool,
) -> tuple[dict[str, Pair], Pair]:
    """The checked parameters of a pooling operation, and how many windows there are along each axis."""
    shape = shape_of(x)
    if len(shape) not in (3, 4):
        raise ShapeError(
            f"{name}: x {describe(x)} must have axes (images, channels, rows, columns) or (channels, rows, columns)"
        )
    kernel = pair(kernel_size, name, "kernel_size")
    steps = kernel if stride is None else pair(stride, name, "stride")
    zeros, gaps = pair(padding, name, "padding", least=0), pair(dilation, name, "dilation")
    out = []
    for size, k, s, p, d in zip(shape[-2:], kernel, steps, zeros, gaps, strict=True):
        covered = span(k, d)
        if p > covered // 2:
            raise ArgumentError(f"{name}: padding {zeros} must be at most half of the window, {covered} elements")
        room = size + 2 * p - covered
        if size < 1 or (room < 0 and not (ceil_mode and room > -s)):
            raise ShapeError(
                f"{name}: a window of {covered} elements (kernel_size {kernel}, dilation {gaps}) does not fit into "
                f"x {describe(x)} with padding {zeros}"
            )
        count = (-(-room // s) if ceil_mode else room // s) + 1
        if (count - 1) * s >= size + p:  # the last window would begin beyond the image
            count -= 1
        out.append(count)
    return {"kernel": kernel, "stride": steps, "padding": zeros, "dilation": gaps}, (out[0], out[1])
