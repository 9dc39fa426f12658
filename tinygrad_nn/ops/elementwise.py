"""Operations that act element by element: arithmetic, exponentials, trigonometry, activations, comparisons.

Rules read `rule(t, y, *args) = t · ∂y/∂arg`, with y the result; an underscore marks what a rule does not read, which
is then not kept. Masks are multiplied rather than selected where the factor is 0 or 1: NumPy's `where` on a random
mask is ten times slower.
"""

from __future__ import annotations

import math
import operator
from typing import Any, overload

import numpy as np

from .._types import Array, ArrayLike, Binary, Fn, Scalar, Unary
from ..domains import Reals, case
from ..errors import BatchError
from ..registry import OPS, SATURATED, UNUSED
from ..tensor import Tensor, wrap
from . import batching, special
from .declare import elementwise, linear, nondifferentiable

_POSITIVE = Reals(0.2, 4.0)
_NONZERO = Reals(avoid=(0.0,))
_DISTINCT = Reals(distinct=True)  # drawn so that the two arguments never tie
_INSIDE_ONE = Reals(-0.9, 0.9)
_OUTSIDE_ONE = Reals(1.1, 4.0)

_ZEROS, _ONES = ({np.dtype(kind): np.full((), value, kind) for kind in "efdgFDG"} for value in (0, 1))


def _zero(x: Any) -> Any:
    """0, to compute with floating `x`: NumPy takes an array without axes twice as fast as a Python number."""
    return _ZEROS.get(x.dtype, 0) if type(x) is np.ndarray else 0


def _one(x: Any) -> Any:
    """1, to compute with floating `x`."""
    return _ONES.get(x.dtype, 1) if type(x) is np.ndarray else 1


# -- arithmetic. Python's operators, not NumPy's ufuncs: they are ten times faster on NumPy scalars (0-d results) ------

add: Binary = elementwise(
    "add", operator.add, [lambda t, _y, _a, _b: t, lambda t, _y, _a, _b: t], twin=np.add, formula="a + b", analytic=True
)
subtract: Binary = elementwise(
    "subtract",
    operator.sub,
    [lambda t, _y, _a, _b: t, lambda t, _y, _a, _b: -t],
    twin=np.subtract,
    formula="a - b",
    analytic=True,
)
multiply: Binary = elementwise(
    "multiply",
    operator.mul,
    [lambda t, _y, _a, b: t * b, lambda t, _y, a, _b: t * a],
    twin=np.multiply,
    formula="a · b",
    analytic=True,
)
divide: Binary = elementwise(
    "divide",
    operator.truediv,
    [lambda t, _y, _a, b: t / b, lambda t, y, _a, b: -t * y / b],
    twin=np.divide,
    formula="a / b",
    domain=[Reals(), _NONZERO],
    analytic=True,
)


def _power_base(t: Any, _y: Any, a: Any, b: Any) -> Any:
    if isinstance(b, int | float):
        return t * (b * (a if b == 2 else a ** (b - 1))) if b else t * 0.0
    # At 0 to the power 0 the slope is 0. Elsewhere b = 0 needs no guard, which would hide the slope's own derivative.
    corner = (a == 0) & (b == 0)
    return t * (b * where(corner, 1.0, a) ** (b - 1))


def _power_exponent(t: Any, y: Any, a: Any, _b: Any) -> Any:
    # where a is 0 the result does not depend on b > 0: log(1) stands in for log(0)
    return t * y * log(where(a == 0, 1.0, a))


power: Binary = elementwise(
    "power",
    operator.pow,
    [_power_base, _power_exponent],
    twin=np.power,
    formula="a to the power b",
    domain=[_POSITIVE, Reals()],
    ties="0 to the power 0 has slope 0 in both arguments",
    kink=lambda _y, a, b: (a == 0) & (b < 1),
    singular=lambda _y, _a, b: not (isinstance(b, int | float) and b >= 1),
    analytic=True,
)
negative: Unary = elementwise(
    "negative", operator.neg, [lambda t, _y, _x: -t], twin=np.negative, formula="-x", analytic=True
)
positive: Unary = elementwise(
    "positive", operator.pos, [lambda t, _y, _x: t], twin=np.positive, formula="x", analytic=True
)
square: Unary = elementwise(
    "square", np.square, [lambda t, _y, x: t * (x + x)], twin=np.square, formula="x²", analytic=True
)
reciprocal: Unary = elementwise(
    "reciprocal",
    np.reciprocal,
    [lambda t, y, _x: -t * y * y],
    twin=np.reciprocal,
    formula="1 / x",
    domain=[_NONZERO],
    analytic=True,
)
sqrt: Unary = elementwise(
    "sqrt",
    np.sqrt,
    [lambda t, y, _x: t * 0.5 / y],
    twin=np.sqrt,
    formula="√x",
    domain=[_POSITIVE],
    kink=lambda y, _x: y == 0,
    singular=lambda _y, _x: True,
    analytic=True,
)
cbrt: Unary = elementwise(
    "cbrt",
    np.cbrt,
    [lambda t, y, _x: t / (3.0 * y * y)],
    twin=np.cbrt,
    formula="∛x",
    domain=[_NONZERO],
    kink=lambda y, _x: y == 0,
    singular=lambda _y, _x: True,
)
absolute: Unary = elementwise(
    "absolute",
    np.absolute,
    [lambda t, _y, x: t * sign(x)],
    twin=np.absolute,
    formula="|x|",
    domain=[_NONZERO],
    ties="slope 0 at 0",
    kink=lambda _y, x: x == 0,
    slopes=(-1.0, 1.0),
)
hypot: Binary = elementwise(
    "hypot",
    np.hypot,
    [lambda t, y, a, _b: t * (a / where(y == 0, 1.0, y)), lambda t, y, _a, b: t * (b / where(y == 0, 1.0, y))],
    twin=np.hypot,
    formula="√(a² + b²)",
    domain=[_NONZERO, _NONZERO],
    ties="slope 0 at (0, 0)",
    kink=lambda y, _a, _b: y == 0,
)

# -- steps: slope 0 wherever there is one ------------------------------------------------------------------------------


def _flat(t: Any, _y: Any, _x: Any) -> Any:
    return t * 0.0


_BETWEEN_INTEGERS = Reals(avoid=(-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0))
_BETWEEN_HALVES = Reals(avoid=(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5))

sign: Unary = elementwise(
    "sign",
    np.sign,
    [_flat],
    twin=np.sign,
    formula="sign(x)",
    domain=[_NONZERO],
    ties="slope 0 everywhere",
    kink=lambda _y, x: x == 0,
)
floor: Unary = elementwise(
    "floor",
    np.floor,
    [_flat],
    twin=np.floor,
    formula="⌊x⌋",
    domain=[_BETWEEN_INTEGERS],
    ties="slope 0 everywhere",
    kink=lambda y, x: x == y,
)
ceil: Unary = elementwise(
    "ceil",
    np.ceil,
    [_flat],
    twin=np.ceil,
    formula="⌈x⌉",
    domain=[_BETWEEN_INTEGERS],
    ties="slope 0 everywhere",
    kink=lambda y, x: x == y,
)
trunc: Unary = elementwise(
    "trunc",
    np.trunc,
    [_flat],
    twin=np.trunc,
    formula="trunc(x)",
    domain=[_BETWEEN_INTEGERS],
    ties="slope 0 everywhere",
    kink=lambda y, x: (x == y) & (x != 0),
)
rint: Unary = elementwise(
    "rint",
    np.rint,
    [_flat],
    twin=np.rint,
    formula="x rounded to even",
    domain=[_BETWEEN_HALVES],
    ties="slope 0 everywhere",
    kink=lambda y, x: abs(x - y) == 0.5,
)
floor_divide: Binary = elementwise(
    "floor_divide",
    operator.floordiv,
    [lambda t, _y, _a, _b: t * 0.0, lambda t, _y, _a, _b: t * 0.0],
    twin=np.floor_divide,
    formula="⌊a / b⌋",
    domain=[Reals(4.0, 5.2), Reals(1.8, 1.9)],
    ties="slope 0 everywhere",
    kink=lambda y, a, b: a == y * b,
)
remainder: Binary = elementwise(
    "remainder",
    operator.mod,
    [lambda t, _y, _a, _b: t, lambda t, _y, a, b: -t * floor(a / b)],
    twin=np.remainder,
    formula="a - b⌊a / b⌋",
    domain=[Reals(4.0, 5.2), Reals(1.8, 1.9)],
    ties="the jump adds nothing to the slope",
    kink=lambda y, _a, _b: y == 0,
)
fmod: Binary = elementwise(
    "fmod",
    np.fmod,
    [lambda t, _y, _a, _b: t, lambda t, _y, a, b: -t * trunc(a / b)],
    twin=np.fmod,
    formula="a - b·trunc(a / b)",
    domain=[Reals(4.0, 5.2), Reals(1.8, 1.9)],
    ties="the jump adds nothing to the slope",
    kink=lambda y, a, _b: (y == 0) & (a != 0),
)

# -- exponentials and logarithms ---------------------------------------------------------------------------------------

exp: Unary = elementwise("exp", np.exp, [lambda t, y, _x: t * y], twin=np.exp, formula="eˣ", analytic=True)
exp2: Unary = elementwise(
    "exp2", np.exp2, [lambda t, y, _x: t * (math.log(2.0) * y)], twin=np.exp2, formula="2ˣ", analytic=True
)
expm1: Unary = elementwise(
    "expm1", np.expm1, [lambda t, y, _x: t * (y + 1.0)], twin=np.expm1, formula="eˣ - 1", analytic=True
)
log: Unary = elementwise(
    "log", np.log, [lambda t, _y, x: t / x], twin=np.log, formula="ln x", domain=[_POSITIVE], analytic=True
)
log2: Unary = elementwise(
    "log2",
    np.log2,
    [lambda t, _y, x: t / (math.log(2.0) * x)],
    twin=np.log2,
    formula="log₂ x",
    domain=[_POSITIVE],
    analytic=True,
)
log10: Unary = elementwise(
    "log10",
    np.log10,
    [lambda t, _y, x: t / (math.log(10.0) * x)],
    twin=np.log10,
    formula="log₁₀ x",
    domain=[_POSITIVE],
    analytic=True,
)
log1p: Unary = elementwise(
    "log1p",
    np.log1p,
    [lambda t, _y, x: t / (1.0 + x)],
    twin=np.log1p,
    formula="ln(1 + x)",
    domain=[Reals(-0.8, 3.0)],
    analytic=True,
)


def _share(a: Any, b: Any) -> Any:
    """eᵃ / (eᵃ + eᵇ); 0 where both are the same infinity, which no small step changes."""
    stuck = (a == b) & isinf(a)
    return where(stuck, 0.0, sigmoid(where(stuck, 0.0, a) - where(stuck, 0.0, b)))


logaddexp: Binary = elementwise(
    "logaddexp",
    np.logaddexp,
    [lambda t, _y, a, b: t * _share(a, b), lambda t, _y, a, b: t * _share(b, a)],
    twin=np.logaddexp,
    formula="ln(eᵃ + eᵇ)",
)

# -- trigonometric and hyperbolic --------------------------------------------------------------------------------------

sin: Unary = elementwise("sin", np.sin, [lambda t, _y, x: t * cos(x)], twin=np.sin, formula="sin x", analytic=True)
cos: Unary = elementwise("cos", np.cos, [lambda t, _y, x: -t * sin(x)], twin=np.cos, formula="cos x", analytic=True)
tan: Unary = elementwise(
    "tan",
    np.tan,
    [lambda t, y, _x: t * (1.0 + y * y)],
    twin=np.tan,
    formula="tan x",
    domain=[Reals(-1.2, 1.2)],
    analytic=True,
)
arcsin: Unary = elementwise(
    "arcsin",
    np.arcsin,
    [lambda t, _y, x: t / sqrt(1.0 - x * x)],
    twin=np.arcsin,
    formula="arcsin x",
    kink=lambda _y, x: abs(x) == 1,
    singular=lambda _y, _x: True,
    domain=[_INSIDE_ONE],
    analytic=True,
)
arccos: Unary = elementwise(
    "arccos",
    np.arccos,
    [lambda t, _y, x: -t / sqrt(1.0 - x * x)],
    twin=np.arccos,
    formula="arccos x",
    kink=lambda _y, x: abs(x) == 1,
    singular=lambda _y, _x: True,
    domain=[_INSIDE_ONE],
    analytic=True,
)
arctan: Unary = elementwise(
    "arctan", np.arctan, [lambda t, _y, x: t / (1.0 + x * x)], twin=np.arctan, formula="arctan x", analytic=True
)


def _over_square(t: Any, side: Any, a: Any, b: Any) -> Any:
    square_sum = a * a + b * b
    return t * (side / where(square_sum == 0, 1.0, square_sum))


arctan2: Binary = elementwise(
    "arctan2",
    np.arctan2,
    [lambda t, _y, a, b: _over_square(t, b, a, b), lambda t, _y, a, b: _over_square(t, -a, a, b)],
    twin=np.arctan2,
    formula="angle of the point (b, a)",
    domain=[_NONZERO, _NONZERO],
    ties="slope 0 at (0, 0)",
    kink=lambda _y, a, b: (a == 0) & (b == 0),
)
sinh: Unary = elementwise(
    "sinh", np.sinh, [lambda t, _y, x: t * cosh(x)], twin=np.sinh, formula="sinh x", analytic=True
)
cosh: Unary = elementwise(
    "cosh", np.cosh, [lambda t, _y, x: t * sinh(x)], twin=np.cosh, formula="cosh x", analytic=True
)
tanh: Unary = elementwise(
    "tanh", np.tanh, [lambda t, y, _x: t * (_one(y) - y * y)], twin=np.tanh, formula="tanh x", analytic=True
)
arcsinh: Unary = elementwise(
    "arcsinh",
    np.arcsinh,
    [lambda t, _y, x: t / hypot(x, 1.0)],
    twin=np.arcsinh,
    formula="arcsinh x",
    analytic=True,
)
arccosh: Unary = elementwise(
    "arccosh",
    np.arccosh,
    [lambda t, _y, x: t / sqrt((x - 1.0) * (x + 1.0))],
    twin=np.arccosh,
    formula="arccosh x",
    kink=lambda y, _x: y == 0,
    singular=lambda _y, _x: True,
    domain=[_OUTSIDE_ONE],
    analytic=True,
)
arctanh: Unary = elementwise(
    "arctanh",
    np.arctanh,
    [lambda t, _y, x: t / ((1.0 - x) * (1.0 + x))],
    twin=np.arctanh,
    formula="arctanh x",
    domain=[_INSIDE_ONE],
    analytic=True,
)
deg2rad: Unary = elementwise(
    "deg2rad", np.deg2rad, [lambda t, _y, _x: t * (math.pi / 180.0)], twin=np.deg2rad, formula="x·π/180"
)
rad2deg: Unary = elementwise(
    "rad2deg", np.rad2deg, [lambda t, _y, _x: t * (180.0 / math.pi)], twin=np.rad2deg, formula="x·180/π"
)

# -- the larger, the smaller, the one in between -----------------------------------------------------------------------


def _larger_share(t: Any, a: Any, b: Any) -> Any:
    """t where a > b, half of t at a tie, else 0."""
    return t * 0.5 * ((a > b).astype(np.int8) + (a >= b).astype(np.int8))


maximum: Binary = elementwise(
    "maximum",
    np.maximum,
    [lambda t, _y, a, b: _larger_share(t, a, b), lambda t, _y, a, b: _larger_share(t, b, a)],
    twin=np.maximum,
    formula="the larger of a and b",
    selects=SATURATED,
    domain=[_DISTINCT, _DISTINCT],
    ties="a tie is split evenly",
    kink=lambda _y, a, b: a == b,
    slopes=(0.0, 1.0),
)
minimum: Binary = elementwise(
    "minimum",
    np.minimum,
    [lambda t, _y, a, b: _larger_share(t, b, a), lambda t, _y, a, b: _larger_share(t, a, b)],
    twin=np.minimum,
    formula="the smaller of a and b",
    selects=SATURATED,
    domain=[_DISTINCT, _DISTINCT],
    ties="a tie is split evenly",
    kink=lambda _y, a, b: a == b,
    slopes=(0.0, 1.0),
)
_clip: Fn = elementwise(
    "clip",
    np.clip,
    [
        lambda t, _y, x, low, high: t * ((x >= low) & (x <= high)),
        lambda t, _y, x, low, high: t * ((x < low) & (low <= high)),
        lambda t, _y, x, low, high: t * ((x > high) | (low > high)),
    ],
    twin=np.clip,
    formula="x, but no less than low and no more than high",
    selects=SATURATED,
    domain=[Reals(-3.0, 3.0, avoid=(-1.0, 1.0)), Reals(-1.05, -0.95), Reals(0.95, 1.05)],
    ties="at a bound the gradient goes to x",
    kink=lambda _y, x, low, high: ((x == low) | (x == high)) & (low <= high),
    slopes=(0.0, 1.0),
)
copysign: Binary = elementwise(
    "copysign",
    np.copysign,
    [lambda t, y, a, _b: t * where(a == 0, 0.0, sign(y) * sign(a)), lambda t, _y, _a, _b: t * 0.0],
    twin=np.copysign,
    formula="|a| with the sign of b",
    domain=[_NONZERO, _NONZERO],
    ties="slope 0 at a = 0",
    kink=lambda _y, a, b: (a == 0) | (b == 0),
)


def _where(a: Any, b: Any, *, condition: Any) -> Any:
    return np.where(condition, a, b)


# The condition is a parameter, not an argument: it takes no gradient. Selecting, not multiplying: an infinite or NaN
# cotangent of the branch not taken must not leak.
_select: Fn = linear(
    "where",
    _where,
    [
        lambda g, _y, _a, _b, *, condition: _select(g, 0.0, condition=condition),
        lambda g, _y, _a, _b, *, condition: _select(0.0, g, condition=condition),
    ],
    joint=True,
    formula="a where the condition holds, else b",
    selects=UNUSED,
    cases=(
        case((2, 3), (2, 3), condition=np.array([[True, False, True], [False, False, True]])),
        case((3,), (2, 1), condition=np.array([True, False, True])),
        case((), (2,), condition=np.array([[True], [False]])),
    ),
    batch=batching.where,
)


@overload
def where(condition: ArrayLike, a: Tensor, b: ArrayLike) -> Tensor: ...
@overload
def where(condition: ArrayLike, a: ArrayLike, b: Tensor) -> Tensor: ...
@overload
def where(condition: Tensor, a: ArrayLike, b: ArrayLike) -> Tensor: ...
@overload
def where(condition: Array | Scalar, a: Array | Scalar, b: Array | Scalar) -> Array: ...
def where(condition: ArrayLike, a: ArrayLike, b: ArrayLike) -> Tensor | Array:
    """`a` where `condition` is true, else `b`; all three broadcast.

    The gradient of each element goes to the branch taken and the other gets exact zeros.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor([-1.0, 2.0])
    >>> tg.where(x > 0, x, 0.0)
    tensor([0., 2.])
    """
    try:
        mask = condition._data if isinstance(condition, Tensor) else condition
    except BatchError as batch:  # inside vmap
        return batch.run(OPS["where"], (a, b), {"condition": condition})  # type: ignore[no-any-return]
    result: Tensor | Array = _select(a, b, condition=np.asarray(mask, bool))
    return wrap(result, None) if isinstance(condition, Tensor) and not isinstance(result, Tensor) else result


@overload
def clip(x: Tensor, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor: ...
@overload
def clip(x: Array | Scalar, min: Array | Scalar | None = None, max: Array | Scalar | None = None) -> Array: ...
def clip(x: ArrayLike, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor | Array:
    """`x` limited to [min, max]; either bound may be None. At a bound the gradient goes to `x`.

    >>> import tinygrad_nn as tg
    >>> tg.clip(tg.tensor([-2.0, 0.5, 2.0]), -1, 1)
    tensor([-1. ,  0.5,  1. ])
    """
    dtype = getattr(x, "dtype", np.dtype(float))
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    low = (limits.min if limits else -math.inf) if min is None else min
    high = (limits.max if limits else math.inf) if max is None else max
    limited: Tensor | Array = _clip(x, low, high)
    return limited


# -- activations -------------------------------------------------------------------------------------------------------


@np.errstate(over="ignore")  # e^-x may overflow to inf, and 1 / inf is the right limit
def _sigmoid(x: Any) -> Any:
    if type(x) is np.ndarray and x.ndim and x.dtype in _ONES:
        one, y = _one(x), np.negative(x)
        np.exp(y, y)
        np.add(y, one, y)
        return np.divide(one, y, y)
    x = x if hasattr(x, "dtype") else np.asarray(x)
    whole = x.dtype.kind in "biu"  # minus such a number may wrap round
    return 1 / (1 + np.exp(np.multiply(x, -1.0) if whole else np.negative(x)))


def _relu(x: Any) -> Any:
    zero = _zero(x)
    if type(x) is np.ndarray and x.size > 8192 and x.dtype.kind == "f":
        y = x.clip(zero, math.inf)  # with the next line twice as fast as `maximum` with a number, but starts 2 µs later
        return np.add(y, zero, y)  # no -0
    return np.maximum(x, zero)


def _softplus(x: Any) -> Any:
    return np.logaddexp(x, x.dtype.type(0) if hasattr(x, "dtype") else 0.0)


sigmoid: Unary = elementwise(
    "sigmoid",
    _sigmoid,
    [lambda t, y, _x: t * (y * (_one(y) - y))],
    reference=lambda x: 0.5 * (1 + np.tanh(x / 2)),
    formula="1 / (1 + e⁻ˣ)",
    analytic=True,
)
softplus: Unary = elementwise(
    "softplus",
    _softplus,
    [lambda t, _y, x: t * sigmoid(x)],
    reference=lambda x: np.log1p(np.exp(x)),
    formula="ln(1 + eˣ)",
)
relu: Unary = elementwise(
    "relu",
    _relu,
    [lambda t, y, _x: t * (y > _zero(y))],
    reference=lambda x: (x + np.abs(x)) / 2,
    formula="the larger of x and 0",
    selects=SATURATED,
    domain=[_NONZERO],
    ties="slope 0 at 0",
    kink=lambda _y, x: x == 0,
    slopes=(0.0, 1.0),
)
leaky_relu: Binary = elementwise(
    "leaky_relu",
    lambda x, slope: np.where(x > 0, x, x * slope)[()],
    [lambda t, _y, x, slope: where(x > 0, t, t * slope), lambda t, _y, x, _slope: t * x * (x < 0)],
    reference=lambda x, slope: np.maximum(x, 0) + slope * np.minimum(x, 0),
    formula="x where it is above 0, else slope · x",
    domain=[_NONZERO, Reals(0.01, 0.5)],
    ties="the slope at 0 is that of negative x",
    kink=lambda _y, x, slope: (x == 0) & (slope != 1),
)
hardtanh: Fn = elementwise(
    "hardtanh",
    np.clip,
    [
        lambda t, _y, x, low, high: t * ((x > low) & (x < high)),
        lambda t, _y, x, low, _high: t * (x <= low),
        lambda t, _y, x, _low, high: t * (x >= high),
    ],
    reference=lambda x, low, high: np.minimum(np.maximum(x, low), high),
    formula="x, but no less than low and no more than high (which is above low)",
    selects=SATURATED,
    domain=[Reals(-3.0, 3.0, avoid=(-1.0, 1.0)), Reals(-1.05, -0.95), Reals(0.95, 1.05)],
    ties="at a bound the gradient goes to the bound",
    kink=lambda _y, x, low, high: (x == low) | (x == high),
    slopes=(0.0, 1.0),
)
silu: Unary = elementwise(
    "silu",
    lambda x: x * _sigmoid(x),
    [lambda t, y, x: t * (sigmoid(x) * (1.0 + x - y))],
    reference=lambda x: x * 0.5 * (1 + np.tanh(x / 2)),
    formula="x / (1 + e⁻ˣ)",
    analytic=True,
)
erf: Unary = elementwise(
    "erf",
    special.erf,
    [lambda t, _y, x: t * (exp(-x * x) * (2.0 / math.sqrt(math.pi)))],
    reference=np.vectorize(math.erf, otypes=[float]),
    formula="(2/√π) ∫₀ˣ exp(-u²) du",
)

# -- comparisons and tests: no derivative, results without history -----------------------------------------------------

greater: Binary = nondifferentiable("greater", operator.gt, twin=np.greater, formula="a > b")
greater_equal: Binary = nondifferentiable("greater_equal", operator.ge, twin=np.greater_equal, formula="a ≥ b")
less: Binary = nondifferentiable("less", operator.lt, twin=np.less, formula="a < b")
less_equal: Binary = nondifferentiable("less_equal", operator.le, twin=np.less_equal, formula="a ≤ b")
equal: Binary = nondifferentiable("equal", np.equal, twin=np.equal, formula="a = b")
not_equal: Binary = nondifferentiable("not_equal", np.not_equal, twin=np.not_equal, formula="a ≠ b")
logical_and: Binary = nondifferentiable("logical_and", np.logical_and, twin=np.logical_and, formula="a and b")
logical_or: Binary = nondifferentiable("logical_or", np.logical_or, twin=np.logical_or, formula="a or b")
logical_xor: Binary = nondifferentiable("logical_xor", np.logical_xor, twin=np.logical_xor, formula="either a or b")
logical_not: Unary = nondifferentiable("logical_not", np.logical_not, twin=np.logical_not, formula="not x")
bitwise_and: Binary = nondifferentiable("bitwise_and", operator.and_, twin=np.bitwise_and, formula="a & b, bit by bit")
bitwise_or: Binary = nondifferentiable("bitwise_or", operator.or_, twin=np.bitwise_or, formula="a | b, bit by bit")
bitwise_xor: Binary = nondifferentiable("bitwise_xor", operator.xor, twin=np.bitwise_xor, formula="a ^ b, bit by bit")
invert: Unary = nondifferentiable("invert", np.invert, twin=np.invert, formula="the complement of x, bit by bit")
isnan: Unary = nondifferentiable("isnan", np.isnan, twin=np.isnan, formula="whether x is NaN")
isinf: Unary = nondifferentiable("isinf", np.isinf, twin=np.isinf, formula="whether x is infinite")
isfinite: Unary = nondifferentiable("isfinite", np.isfinite, twin=np.isfinite, formula="whether x is finite")
