"""Losses as single operations: what training calls at every step. `nn.functional` checks and names the arguments.

Class targets are arguments, not parameters, so that a recorded step can be run again with other labels. They are
integers, and take no gradient.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..domains import Integers, Reals, case
from ..errors import AxisError
from ..registry import UNUSED
from . import batching
from .declare import elementwise, general
from .elementwise import log, log1p, maximum, sigmoid, where
from .reduce import sum as sum_over
from .shape import add_up_rows, expand_dims
from .softmax import softmax

_NUMBERS = np.arange(1024)
_FEW_CLASSES = 64  # up to here, reductions over the classes are faster with the classes along the first axis


class _Rows:
    """Integer targets checked and counted: which class and what share of the result each of the m samples has.

    `x` has shape (N, C, d₁, ...), or (C,) for one sample; its samples are numbered in the order (N, d₁, ...).
    Of `x` only shape and dtype are read.
    """

    def __init__(self, name: str, x: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> None:
        self.shape = x.shape
        self.axis = min(len(x.shape) - 1, 1)
        classes = self.classes = x.shape[self.axis]
        self.y = np.asarray(target, np.intp).reshape(-1)
        m = self.m = self.y.size
        self.share: Any = 1.0 if reduction != "mean" else 1.0 / m if m else math.nan
        # one comparison for both ends: a negative number is huge when its bits are read without sign
        bits = self.y.view(np.uintp)
        if (m and bits[bits.argmax()] >= classes) or weight is not None or 0 <= ignore_index < classes:
            self._weigh(name, x.dtype, weight, ignore_index, reduction)

    def _weigh(self, name: str, dtype: Any, weight: Any, ignore_index: int, reduction: str) -> None:
        counts = self.y != ignore_index
        wrong = counts & ((self.y < 0) | (self.y >= self.classes))
        if wrong.any():
            raise AxisError(
                f"{name}: target {self.y[wrong][0]}, but {self.classes} classes are numbered 0 to {self.classes - 1} "
                f"(and ignore_index is {ignore_index})"
            )
        self.y = np.where(counts, self.y, 0)
        share = counts.astype(np.float32 if dtype == np.float16 else dtype)
        if weight is not None:
            share *= weight[self.y]
        if reduction == "mean":
            with np.errstate(divide="ignore", invalid="ignore"):  # no weight at all: 0 / 0, and the mean is NaN
                share = np.where(counts, share / np.add.reduce(share), 0)
        self.share = share

    def shares(self) -> Any:
        """The share of each sample: a number, or of shape (N, 1, d₁, ...)."""
        if isinstance(self.share, float):
            return self.share
        return self.share.reshape(*self.shape[: self.axis], 1, *self.shape[self.axis + 1 :])

    def at_target(self) -> Any:
        """Where in `x`, read as one row, the target classes are."""
        inner = math.prod(self.shape[2:])
        step = self.classes * inner
        first = np.arange(0, step * (self.m // inner), step) if inner else np.arange(0)
        if inner == 1:
            return first + self.y
        return (first[:, None] + np.arange(inner)).reshape(-1) + self.y * inner

    def coefficients(self, dtype: Any) -> Any:
        """Zeros in the shape of `x`, with minus its share at the target of each sample."""
        slopes = np.zeros(self.shape, dtype)
        slopes.reshape(-1)[self.at_target()] = -self.share
        return slopes

    def total(self, losses: Any, shape: tuple[int, ...], reduction: str, dtype: Any) -> Any:
        """The losses of the samples, each times its share, added up or in the shape of the targets."""
        if isinstance(self.share, np.ndarray):
            # an ignored sample adds nothing, be its loss infinite
            losses = np.multiply(losses, self.share, out=np.zeros_like(losses), where=self.share != 0)
            if reduction == "mean" and not self.share.any():
                return dtype.type(math.nan)
        if reduction == "none":
            return losses.reshape(shape)[()].astype(dtype, copy=False)
        result = np.add.reduce(losses)
        if isinstance(self.share, float):
            result = result * self.share
        return result if result.dtype is dtype else result.astype(dtype)


def _per_sample(v: Any, axis: int) -> Any:
    """A cotangent of the result, ready to be multiplied with what has the shape of the logits."""
    return expand_dims(v, axis) if v.shape else v


# -- cross entropy of logits -------------------------------------------------------------------------------------------


def _cross_entropy(x: Any, target: Any, *, weight: Any, ignore_index: int, reduction: str) -> Any:
    dtype = x.dtype
    rows = _Rows("cross_entropy", x, target, weight, ignore_index, reduction)
    if dtype == np.float16:
        x = x.astype(np.float32)  # a sum of many losses would overflow
    if x.ndim == 2 and rows.classes > _FEW_CLASSES:
        axis, z = 1, np.ascontiguousarray(x)
        at = rows.at_target()
    else:
        axis, z = 0, _classes_first(x, rows)
        at = rows.y * rows.m + (_NUMBERS[: rows.m] if rows.m <= _NUMBERS.size else np.arange(rows.m))
    top = np.maximum.reduce(z, axis)
    z = np.subtract(z, top[:, None] if axis else top, order="C")  # the rules write into it as one row
    own = z.take(at)
    e = np.exp(z, z)
    s = np.add.reduce(e, 1) if axis else add_up_rows(e, 1)
    losses = np.log(s)
    losses -= own
    return rows.total(losses, np.shape(target), reduction, dtype), (e, s, at, axis, rows.share)


def _classes_first(x: Any, rows: _Rows) -> Any:
    if x.ndim == 2:
        return x.T.copy()
    n, inner = (x.shape[0], -1 if x.size else math.prod(x.shape[2:])) if x.ndim > 2 else (1, 1)
    return x.reshape(n, rows.classes, inner).swapaxes(0, 1).reshape(rows.classes, rows.m)


def _cross_entropy_vjp(
    g: Any, _y: Any, x: Any, target: Any, *, weight: Any, ignore_index: int, reduction: str, residual: Any
) -> Any:
    if residual is None:
        slopes, axis = _cross_entropy_slopes(x, target, weight, ignore_index, reduction)
        return slopes * _per_sample(g, axis)
    e, s, at, axis, share = residual
    g = g.reshape(-1) if g.shape else g
    g = (g if g.dtype is e.dtype else g.astype(e.dtype)) * share
    slopes = e * ((g / s)[:, None] if axis else g / s)
    slopes.reshape(-1)[at] -= g
    if isinstance(share, np.ndarray):  # the logits of ignored samples may be anything, NaN too
        (slopes if axis else slopes.T)[np.flatnonzero(share == 0)] = 0
    if axis:
        return slopes
    if x.ndim == 2:
        return slopes.T
    return slopes.reshape(x.shape[1], x.shape[0], *x.shape[2:]).swapaxes(0, 1) if x.ndim > 2 else slopes.reshape(-1)


def _cross_entropy_jvp(
    t: Any, _y: Any, x: Any, target: Any, *, weight: Any, ignore_index: int, reduction: str, residual: Any
) -> Any:
    slopes, axis = _cross_entropy_slopes(x, target, weight, ignore_index, reduction)
    return sum_over(slopes * t, axis=axis if reduction == "none" else None)


def _cross_entropy_slopes(x: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> tuple[Any, int]:
    """share · (softmax(x) - one-hot), in operations."""
    rows = _Rows("cross_entropy", x, target, weight, ignore_index, reduction)
    shares = rows.shares()
    if isinstance(shares, np.ndarray):
        x = where(shares == 0, 0.0, x)  # the logits of ignored samples may be anything, NaN too
    return softmax(x, rows.axis) * shares + rows.coefficients(x.dtype), rows.axis


_TARGET_CASES = (
    *(
        case(*shapes, weight=weight, ignore_index=ignore_index, reduction=reduction)
        for reduction in ("mean", "sum", "none")
        for shapes, weight, ignore_index in (
            (((4, 3), (4,)), None, -100),
            (((4, 3), (4,)), None, 1),
            (((2, 3, 2), (2, 2)), None, -100),
            (((4, 3), (4,)), np.array([0.5, 1.0, 2.0]), -100),
        )
    ),
    case((3,), (), weight=None, ignore_index=-100, reduction="mean"),
    case((4, 3, 1), (4, 1), weight=None, ignore_index=-100, reduction="mean"),
    case((2, 70), (2,), weight=None, ignore_index=-100, reduction="none"),
    case((0, 3), (0,), weight=None, ignore_index=-100, reduction="sum"),
)
_TARGET_DOMAIN = (Reals(), Integers(0, 3))


def _silent_samples(zero: Any, *, reduction: str, **_: Any) -> Any:
    """Where no cotangent comes from: each class of a sample gets something from its loss alone."""
    return _per_sample(zero, 1) if reduction == "none" else zero


cross_entropy = general(
    "cross_entropy",
    _cross_entropy,
    [_cross_entropy_vjp],
    [_cross_entropy_jvp],
    domain=_TARGET_DOMAIN,
    cases=_TARGET_CASES,
    residual=True,
    silent=_silent_samples,
    formula="ln Σ eˣ - x[target]",
    batch=batching.per_sample_loss,
)

# -- negative log likelihood -------------------------------------------------------------------------------------------


def _nll(x: Any, target: Any, *, weight: Any, ignore_index: int, reduction: str) -> Any:
    rows = _Rows("nll_loss", x, target, weight, ignore_index, reduction)
    losses = -x.take(rows.at_target())
    if x.dtype == np.float16:
        losses = losses.astype(np.float32)
    return rows.total(losses, np.shape(target), reduction, x.dtype)


def _nll_vjp(g: Any, _y: Any, _x: Any, target: Any, *, weight: Any, ignore_index: int, reduction: str) -> Any:
    rows = _Rows("nll_loss", _x, target, weight, ignore_index, reduction)
    return rows.coefficients(_x.dtype) * _per_sample(g, rows.axis)


def _nll_jvp(t: Any, _y: Any, _x: Any, target: Any, *, weight: Any, ignore_index: int, reduction: str) -> Any:
    return nll_loss(t, target, weight=weight, ignore_index=ignore_index, reduction=reduction)


nll_loss = general(
    "nll_loss",
    _nll,
    [_nll_vjp],
    [_nll_jvp],
    domain=_TARGET_DOMAIN,
    cases=_TARGET_CASES,
    formula="-x[target]",
    selects=UNUSED,
    batch=batching.per_sample_loss,
)

# -- squared error -----------------------------------------------------------------------------------------------------


def _squared_error(a: Any, b: Any, *, share: float) -> Any:
    d = a - b
    flat = d.ravel("K")
    if flat.dtype.char == "e":  # float16, whose sum might overflow
        return (np.dot(flat.astype(np.float32), flat.astype(np.float32)) * share).astype(np.float16), d
    return np.dot(flat, flat) * share, d


def _difference(a: Any, b: Any, residual: Any) -> Any:
    return a - b if residual is None else residual


squared_error = general(
    "squared_error",
    _squared_error,
    [
        lambda g, _y, a, b, *, share, residual: _difference(a, b, residual) * (g * (2.0 * share)),
        lambda g, _y, a, b, *, share, residual: _difference(a, b, residual) * (g * (-2.0 * share)),
    ],
    [
        lambda t, _y, a, b, *, share, residual: sum_over(t * (a - b)) * (2.0 * share),
        lambda t, _y, a, b, *, share, residual: sum_over(t * (a - b)) * (-2.0 * share),
    ],
    cases=(case((2, 3), (2, 3), share=1.0), case((2, 3), (), share=0.5), case((), (), share=1.0)),
    residual=True,
    analytic=True,
    formula="share · Σ (a - b)²",
    batch=batching.squared_error,
)

# -- binary cross entropy ----------------------------------------------------------------------------------------------

_PROBABILITY = Reals(0.05, 0.95)
_TINY = math.exp(-100.0)  # logarithms are cut off at -100, as in PyTorch

binary_cross_entropy_with_logits = elementwise(
    "binary_cross_entropy_with_logits",
    # each term keeps its precision where the other is large: exact for sure and right predictions
    lambda x, t: np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))),
    [lambda g, _y, x, t: g * (sigmoid(x) - t), lambda g, _y, x, _t: -g * x],
    formula="-t·ln σ(x) - (1 - t)·ln(1 - σ(x))",
    domain=[Reals(), _PROBABILITY],
)


def _cut_log(p: Any) -> Any:
    """ln p, but not less than -100."""
    small = p <= _TINY
    return where(small, -100.0, log(where(small, 1.0, p)))


def _cut_log_of_rest(p: Any) -> Any:
    """ln(1 - p), but not less than -100."""
    one = p == 1
    return where(one, -100.0, log1p(-where(one, 0.0, p)))


def _smallest(p: Any) -> float:
    return max(1e-12, float(np.finfo(p.dtype).tiny))


binary_cross_entropy = elementwise(
    "binary_cross_entropy",
    lambda p, t: -(t * _cut_log(p) + (1 - t) * _cut_log_of_rest(p)),
    [
        lambda g, _y, p, t: g * ((p - t) / maximum(p * (1.0 - p), _smallest(p))),
        lambda g, _y, p, _t: g * (_cut_log_of_rest(p) - _cut_log(p)),
    ],
    formula="-t·ln p - (1 - t)·ln(1 - p)",
    domain=[_PROBABILITY, _PROBABILITY],
    ties="logarithms are cut off at -100, and the slope is finite at p = 0 and p = 1",
    kink=lambda _y, p, _t: (p == 0) | (p == 1),
)
