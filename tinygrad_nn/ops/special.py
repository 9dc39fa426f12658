"""Special functions that NumPy does not have, on arrays."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np


class _Fit(NamedTuple):
    """Two polynomials (highest power first) that give erf to the precision of one dtype.

    For |x| ≤ 1: erf(x) = x · near(x²). Above: erf(x) = 1 - exp(-x²) · far(1 / (x + 2)), and 1 from `top` on. Both have
    the least possible largest error relative to erf (found by repeatedly reweighted least squares with 50 digits);
    it is a tenth of a rounding or less.
    """

    near: tuple[float, ...]
    far: tuple[float, ...]
    top: float


_FLOAT64 = _Fit(
    near=(
        -7.779434589684096e-10,
        1.371096164329978e-08,
        -1.6206309274888393e-07,
        1.6447130965059645e-06,
        -1.4924712251060925e-05,
        0.00012055293574145834,
        -0.0008548325929218585,
        0.00522397760611638,
        -0.026866170643111194,
        0.11283791670944184,
        -0.3761263890318352,
        1.1283791670955126,
    ),
    far=(
        49.383122628291055,
        -101.29054369146179,
        37.823587738279606,
        75.28141931466074,
        -93.31400110251133,
        39.253314305742585,
        -8.701387029117406,
        5.023092611989726,
        1.6859268728596382,
        1.1531472590016238,
        0.562929523180568,
        2.8918645763737554e-05,
    ),
    top=6.0,
)
_FLOAT32 = _Fit(
    near=(
        7.8537765342723e-05,
        -0.0008010167929451051,
        0.005188324759951793,
        -0.02685381039499907,
        0.1128358511179128,
        -0.3761262583099053,
        1.128379165726242,
    ),
    far=(
        -7.3835514509533136,
        10.183801238860411,
        -0.5138864967088609,
        1.586684759718671,
        0.5194771666075404,
        0.0018180912821143774,
    ),
    top=4.0,
)
_BLOCK = 8192  # elements worked on at a time, so that the temporaries stay in the cache


def erf(x: Any) -> Any:
    """The error function, element by element, in the dtype of `x`; integers give float64.

    It is within 1 unit in the last place in float64, 3 in float32.
    """
    x = np.asarray(x)
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    if not x.ndim:
        return dtype.type(math.erf(x))
    fit = _FLOAT32 if dtype.itemsize <= 4 else _FLOAT64
    flat = x.reshape(-1).astype(np.float32 if fit is _FLOAT32 else np.float64, copy=False)
    y = np.empty_like(flat)
    for start in range(0, flat.size, _BLOCK):
        _erf(flat[start : start + _BLOCK], y[start : start + _BLOCK], fit)
    return y.reshape(x.shape).astype(dtype, copy=False)


def _erf(x: Any, y: Any, fit: _Fit) -> None:
    """Write erf(x) into y."""
    size = np.minimum(np.abs(x), fit.top)
    squares = np.minimum(size * size, 1.0)
    np.multiply(_polynomial(fit.near, squares), x, out=y)
    (far,) = np.nonzero(size > 1.0)
    if far.size:
        size = size[far]
        rest = _polynomial(fit.far, 1.0 / (size + 2.0))
        rest *= np.exp(-size * size)
        y[far] = np.copysign(1.0 - rest, x[far])


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    """The value at x, by Horner's rule."""
    total = x * coefficients[0]
    for c in coefficients[1:-1]:
        total += c
        total *= x
    total += coefficients[-1]
    return total
