"""What convolution and pooling must compute, element by element in plain loops. Nothing here knows tinygrad_nn.

Parameters are those of the declared operations; VALUES has the function for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]


def terms(
    x: tuple[int, ...], w: tuple[int, ...], *, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair, groups: int
) -> Iterator[tuple[Any, Any, Any]]:
    """The places (in x, in w, in y) of every product in a convolution of arrays of these shapes."""
    rows, columns = (
        (x[a] + sum(padding[a - 2]) - dilation[a - 2] * (w[a] - 1) - 1) // stride[a - 2] + 1 for a in (2, 3)
    )
    for n, o, r, s in np.ndindex(x[0], w[0], rows, columns):
        for c, i, j in np.ndindex(*w[1:]):
            row = r * stride[0] + i * dilation[0] - padding[0][0]
            column = s * stride[1] + j * dilation[1] - padding[1][0]
            if 0 <= row < x[2] and 0 <= column < x[3]:
                yield (n, o // (w[0] // groups) * w[1] + c, row, column), (o, c, i, j), (n, o, r, s)


def conv2d(x: Array, w: Array, b: Array | None = None, **how: Any) -> Array:
    sizes = [
        (x.shape[a] + sum(how["padding"][a - 2]) - how["dilation"][a - 2] * (w.shape[a] - 1) - 1)
        // how["stride"][a - 2]
        + 1
        for a in (2, 3)
    ]
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    for in_x, in_w, in_y in terms(x.shape, w.shape, **how):
        y[in_y] += x[in_x] * w[in_w]
    return y if b is None else y + b.reshape(-1, 1, 1)


def conv2d_input(g: Array, w: Array, *, size: Pair, **how: Any) -> Array:
    x = np.zeros((g.shape[0], w.shape[1] * how["groups"], *size))
    for in_x, in_w, in_y in terms(x.shape, w.shape, **how):
        x[in_x] += g[in_y] * w[in_w]
    return x


def conv2d_weight(x: Array, g: Array, *, kernel: Pair, **how: Any) -> Array:
    w = np.zeros((g.shape[1], x.shape[1] // how["groups"], *kernel))
    for in_x, in_w, in_y in terms(x.shape, w.shape, **how):
        w[in_w] += x[in_x] * g[in_y]
    return w


def windows(
    size: Pair, out: Pair, *, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1)
) -> Iterator[tuple[Any, list[tuple[int, Any]]]]:
    """Each place in the result, with the places inside the image that its window covers, numbered row by row."""
    for r, s in np.ndindex(*out):
        covered = []
        for number, (i, j) in enumerate(np.ndindex(*kernel)):
            row = r * stride[0] + i * dilation[0] - padding[0]
            column = s * stride[1] + j * dilation[1] - padding[1]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                covered.append((number, (..., row, column)))
        yield (..., r, s), covered


def max_pool2d(x: Array, *, out: Pair, **window: Any) -> Array:
    y = np.full((*x.shape[:-2], *out), -np.inf)
    for place, covered in windows(x.shape[-2:], out, **window):
        for _, inside in covered:
            y[place] = np.maximum(y[place], x[inside])
    return y


def max_pool2d_position(x: Array, y: Array, *, out: Pair, **window: Any) -> Array:
    position = np.full(y.shape, window["kernel"][0] * window["kernel"][1] - 1, np.uint8)
    for place, covered in windows(x.shape[-2:], out, **window):
        for number, inside in reversed(covered):
            position[place] = np.where(x[inside] == y[place], number, position[place])
    return position


def max_pool2d_input(g: Array, position: Array, *, size: Pair, **window: Any) -> Array:
    x = np.zeros((*g.shape[:-2], *size))
    for place, covered in windows(size, g.shape[-2:], **window):
        for number, inside in covered:
            x[inside] += np.where(position[place] == number, g[place], 0.0)
    return x


def max_pool2d_read(x: Array, position: Array, **window: Any) -> Array:
    y = np.zeros(position.shape)
    for place, covered in windows(x.shape[-2:], position.shape[-2:], **window):
        for number, inside in covered:
            y[place] = np.where(position[place] == number, x[inside], y[place])
    return y


def count(place: Any, covered: list[Any], size: Pair, include_pad: bool, divisor: int | None, window: Any) -> int:
    """By what a mean divides: the window without what hangs over the far edge of the padded image."""
    if divisor is not None:
        return divisor
    if not include_pad:
        return len(covered)
    sides = []
    for axis in (0, 1):
        start = place[1 + axis] * window["stride"][axis] - window["padding"][axis]
        sides.append(min(start + window["kernel"][axis], size[axis] + window["padding"][axis]) - start)
    return sides[0] * sides[1]


def avg_pool2d(x: Array, *, out: Pair, include_pad: bool, divisor: int | None, **window: Any) -> Array:
    y = np.zeros((*x.shape[:-2], *out))
    for place, covered in windows(x.shape[-2:], out, **window):
        for _, inside in covered:
            y[place] += x[inside] / count(place, covered, x.shape[-2:], include_pad, divisor, window)
    return y


def avg_pool2d_input(g: Array, *, size: Pair, include_pad: bool, divisor: int | None, **window: Any) -> Array:
    x = np.zeros((*g.shape[:-2], *size))
    for place, covered in windows(size, g.shape[-2:], **window):
        for _, inside in covered:
            x[inside] += g[place] / count(place, covered, size, include_pad, divisor, window)
    return x


VALUES: dict[str, Callable[..., Array]] = {
    "conv2d": conv2d,
    "conv2d_bias": conv2d,
    "conv2d_input": conv2d_input,
    "conv2d_weight": conv2d_weight,
    "max_pool2d": max_pool2d,
    "max_pool2d_position": max_pool2d_position,
    "max_pool2d_input": max_pool2d_input,
    "max_pool2d_read": max_pool2d_read,
    "avg_pool2d": avg_pool2d,
    "avg_pool2d_input": avg_pool2d_input,
}
