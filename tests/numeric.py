"""Derivatives from function values alone. Nothing here knows tinygrad_nn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Function = Callable[..., Array]


def slope(phi: Callable[[float], Array], h: float = 0.02, levels: int = 5) -> tuple[Array, Array]:
    """phi'(0) by central differences at h, h/2, h/4, ..., extrapolated to step 0 (Richardson); and its error.

    A central difference errs by c₁h² + c₂h⁴ + ...; each column of the table removes one more term. The error is the
    larger of the last change and of the rounding that division by the smallest step magnifies.
    """
    row: list[Array] = []
    previous = row
    largest = 0.0
    for k in range(levels):
        step = h / 2**k
        up, down = np.asarray(phi(step), np.float64), np.asarray(phi(-step), np.float64)
        largest = max(largest, float(np.max(np.abs(up), initial=0.0)), float(np.max(np.abs(down), initial=0.0)))
        new = [(up - down) / (2 * step)]
        for j, older in enumerate(row):
            new.append(new[j] + (new[j] - older) / (4 ** (j + 1) - 1))
        row, previous = new, row
    rounding = 4 * np.finfo(np.float64).eps * largest / step
    return row[-1], np.abs(row[-1] - previous[-1]) + rounding


def directional(f: Function, args: Sequence[Array], direction: Sequence[Array | None]) -> tuple[Array, Array]:
    """The derivative of f at `args` along `direction` (None: that argument stands still), and its error."""

    def along(h: float) -> Array:
        return f(*(a if v is None else a + h * v for a, v in zip(args, direction, strict=True)))

    return slope(along)


def gradient(f: Function, args: Sequence[Array], i: int, w: Array) -> tuple[Array, Array]:
    """∂<w, f(args)>/∂argument i, one element at a time, and its error."""
    value, error = np.zeros(args[i].shape), np.zeros(args[i].shape)
    for place in np.ndindex(args[i].shape):
        unit = np.zeros(args[i].shape)
        unit[place] = 1.0
        only = [unit if j == i else None for j in range(len(args))]
        column, off = directional(f, args, only)
        value[place], error[place] = np.sum(w * column), np.sum(np.abs(w) * off)
    return value, error


def complex_step(f: Function, args: Sequence[Array], direction: Sequence[Array | None]) -> Array:
    """The derivative along `direction` of an analytic f: Im f(x + ihv) / h, free of cancellation, exact to rounding."""
    h = 1e-20
    moved = [a if v is None else a + 1j * (h * v) for a, v in zip(args, direction, strict=True)]
    return np.asarray(np.imag(f(*moved))) / h
