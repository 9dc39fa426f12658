"""Derivatives of functions of arrays from their values alone: central differences whose step is chosen by their error.

A slope is read at a step h and at steps 4, 16, ... times smaller, and extrapolated to h = 0 (Ridders' scheme). What an
extrapolation changes says how wrong it may still be, and the rounding of the values, divided by h, how wrong a small
step is; the estimate with the smallest error wins. Most functions are done after two or three steps.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ._types import Array
from .errors import GraphError, RoughDerivativeWarning

RATIO = 4.0
MOST_STEPS = 8
WIDER = (1.0, 64.0, 4096.0)  # times the first step, where that drowns in the noise of the function
# Errors, as parts of the slope: no need for a smaller step; none for a wider start, or a warning; no slope at all.
GOOD, FAIR, ROUGH = 1e-8, 1e-3, 0.1

Values = Callable[[float], tuple[Array, float]]  # a step -> the values there, and the step that was really made


class Estimate(NamedTuple):
    """A slope and its error."""

    slope: Array
    error: float


def gradient(f: Callable[[Array], Array], x: Array, g: Array, name: str) -> Array:
    """Jᵀg of `f` at `x`, element by element of `x`."""
    found = np.zeros(x.shape)
    moved = x.copy()
    weights, y = np.asarray(g, np.float64), np.asarray(f(x))
    typical = _size(x)
    for j in range(x.size):
        at = float(x.flat[j])

        def values(h: float, j: int = j, at: float = at) -> tuple[Array, float]:
            moved.flat[j] = at + h
            return np.asarray(f(moved.copy()), np.float64), float(moved.flat[j]) - at

        found.flat[j] = _slope(values, max(abs(at), 0.01 * typical), y, weights, name)
        moved.flat[j] = x.flat[j]
    return found.astype(x.dtype)


def tangent(f: Callable[[Array], Array], x: Array, t: Array, name: str) -> Array:
    """J t of `f` at `x`."""
    length, y = float(np.max(np.abs(t), initial=0.0)), np.asarray(f(x))
    if not length:
        return np.zeros(y.shape, y.dtype)
    direction = np.asarray(t, np.float64) / length

    def values(h: float) -> tuple[Array, float]:
        return np.asarray(f((x + h * direction).astype(x.dtype)), np.float64), h

    return np.asarray(length * _slope(values, _size(x), y, None, name), y.dtype)


def _size(x: Array) -> float:
    return float(np.max(np.abs(x), initial=0.0)) or 1.0


def _slope(values: Values, scale: float, y: Array, weights: Array | None, name: str) -> Array:
    """The derivative by h at 0, summed with `weights` if there are any. `y` are the values at 0."""
    eps = float(np.finfo(y.dtype if y.dtype.kind == "f" else np.float64).eps)
    best = Estimate(np.asarray(math.nan), math.inf)
    for wider in WIDER:
        if wider > WIDER[1] and not np.any(best.slope):
            break  # it does not move
        found = _ridders(values, min(eps**0.2, 0.05) * scale * wider, y, weights, eps)
        if found.error < best.error:
            best = found
        if best.error <= FAIR * _largest(best.slope) and np.any(best.slope):
            break
    if not math.isfinite(best.error):
        raise GraphError(
            f"{name}: no numeric derivative, because the values around the arguments are not finite; give the "
            "operation rules, or keep the arguments inside its domain"
        )
    if best.error > ROUGH * _largest(best.slope) and best.error * scale > FAIR * _largest(y):
        raise GraphError(
            f"{name}: no numeric derivative: estimates of a slope, {best.slope!r:.60}, differ by {best.error:.2g}. The "
            "function jumps there, or its values are too coarse; compute in float64, or give the operation rules"
        )
    if best.error > FAIR * _largest(best.slope) and best.error * scale > math.sqrt(eps) * _largest(y):
        warnings.warn(
            f"{name}: a numeric slope, {best.slope!r:.60}, is known to ± {best.error:.1g} only, for the values are "
            "noisy; compute in float64, or give the operation rules",
            RoughDerivativeWarning,
            stacklevel=2,
        )
    return best.slope


def _ridders(values: Values, h: float, y: Array, weights: Array | None, eps: float) -> Estimate:
    """The best estimate from steps h, h/4, ..."""
    best = Estimate(np.asarray(math.nan), math.inf)
    row: list[Array] = []
    for _ in range(MOST_STEPS):
        (up, above), (down, below) = values(h), values(-h)
        if above == below:
            break  # the step is lost in the rounding of the argument
        change = up - down  # first: what stands still brings no rounding
        rounding = np.where(change != 0, eps * np.abs(y), 0.0)
        if weights is not None:
            change = np.asarray(np.sum(weights * change))
            rounding = np.asarray(np.linalg.norm(weights * rounding))
        noise = _largest(rounding) / h
        new, power = [change / (above - below)], 1.0
        for previous in row:
            power *= RATIO**2
            new.append(new[-1] + (new[-1] - previous) / (power - 1))
        for k in range(1, len(new)):
            error = max(_largest(new[k] - new[k - 1]), _largest(new[k] - row[k - 1])) + noise
            if error < best.error:
                best = Estimate(new[k], error)
        if best.error < math.inf and (
            best.error <= GOOD * _largest(best.slope)
            or noise >= best.error
            or (
                best.error <= ROUGH * _largest(best.slope) and _largest(new[-1] - row[-1]) > 2 * best.error
            )  # got worse
        ):
            break
        row, h = new, h / RATIO
    return best


def _largest(x: Array) -> float:
    """The size of the largest element; infinite if one is not finite."""
    size = float(np.max(np.abs(x), initial=0.0))
    return size if math.isfinite(size) else math.inf
