"""Starting values for parameters, with PyTorch's names, formulas and argument order.

Each function fills a tensor in place (nothing is recorded) and returns it. `fan_in` and `fan_out` are read off a weight
of shape (out, in, *kernel): in · kernel size and out · kernel size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError, describe
from ..random import default_generator
from ..tensor import Tensor
from ..writes import writes

if TYPE_CHECKING:
    from numpy.random import Generator

T = TypeVar("T", bound=Tensor)
Mode = Literal["fan_in", "fan_out"]


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights must grow to make up for what a nonlinearity takes away from the variance.

    1 for linear layers and sigmoid, 5/3 for tanh, √2 for relu, √(2 / (1 + a²)) for leaky_relu of slope a = `param`
    (0.01 unless told), 3/4 for selu.

    >>> import tinygrad_nn as tg
    >>> round(tg.nn.init.calculate_gain("relu"), 4)
    1.4142
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1.0 + slope * slope))
    gains = {"tanh": 5.0 / 3.0, "relu": math.sqrt(2.0), "selu": 0.75}
    gains.update(dict.fromkeys(("linear", "identity", "conv1d", "conv2d", "conv3d", "sigmoid"), 1.0))
    if nonlinearity not in gains:
        known = ", ".join(sorted([*gains, "leaky_relu"]))
        raise ArgumentError(f"calculate_gain: unknown nonlinearity {nonlinearity!r}; there are {known}")
    return gains[nonlinearity]


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> T:
    """Uniform in [a, b).

    >>> import tinygrad_nn as tg
    >>> w = tg.nn.init.uniform_(tg.empty((3, 4)), -0.5, 0.5)
    >>> bool((abs(w) <= 0.5).all())
    True
    """
    if not a <= b:
        raise ArgumentError(f"uniform_: the bounds must be in order, not a={a}, b={b}")
    return _fill("uniform_", tensor, _generator(generator).random(tensor.shape, _drawn(tensor)) * (b - a) + a)


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> T:
    """Normal with the given mean and standard deviation.

    >>> import tinygrad_nn as tg
    >>> tg.nn.init.normal_(tg.empty((3, 4)), std=0.01).shape
    (3, 4)
    """
    if not std >= 0:
        raise ArgumentError(f"normal_: the standard deviation must not be negative: std={std}")
    return _fill("normal_", tensor, _generator(generator).standard_normal(tensor.shape, _drawn(tensor)) * std + mean)


def trunc_normal_(
    tensor: T,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> T:
    """Normal, with what falls outside [a, b] (absolute bounds, not multiples of `std`) drawn again.

    >>> import tinygrad_nn as tg
    >>> w = tg.nn.init.trunc_normal_(tg.empty((3, 4)), a=-1.0, b=1.0)
    >>> bool((abs(w) <= 1.0).all())
    True
    """
    if not std > 0:
        raise ArgumentError(f"trunc_normal_: the standard deviation must be positive: std={std}")
    low, high = (math.erf((edge - mean) / (std * math.sqrt(2.0))) / 2.0 for edge in (a, b))
    if not high - low >= 0.01:
        raise ArgumentError(
            f"trunc_normal_: only {max(high - low, 0.0):.2g} of normal({mean}, {std}) lies in [{a}, {b}]; "
            "the bounds are absolute values, not multiples of std"
        )
    rng, dtype = _generator(generator), _drawn(tensor)
    values = rng.standard_normal(tensor.shape, dtype) * std + mean
    values = np.asarray(values)
    outside = (values < a) | (values > b)
    while count := int(np.count_nonzero(outside)):
        values[outside] = rng.standard_normal(count, dtype) * std + mean
        outside = (values < a) | (values > b)
    return _fill("trunc_normal_", tensor, values)


def constant_(tensor: T, val: float) -> T:
    """Every element `val`.

    >>> import tinygrad_nn as tg
    >>> tg.nn.init.constant_(tg.empty(2), 0.3)
    tensor([0.3, 0.3])
    """
    return _fill("constant_", tensor, val)


def zeros_(tensor: T) -> T:
    """Every element 0.

    >>> import tinygrad_nn as tg
    >>> tg.nn.init.zeros_(tg.empty(2))
    tensor([0., 0.])
    """
    return _fill("zeros_", tensor, 0.0)


def ones_(tensor: T) -> T:
    """Every element 1.

    >>> import tinygrad_nn as tg
    >>> tg.nn.init.ones_(tg.empty(2))
    tensor([1., 1.])
    """
    return _fill("ones_", tensor, 1.0)


def xavier_uniform_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Uniform in ±gain · √(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010).

    >>> import tinygrad_nn as tg
    >>> w = tg.nn.init.xavier_uniform_(tg.empty((2, 4)))
    >>> bool((abs(w) <= 1.0).all())
    True
    """
    fan_in, fan_out = _fans("xavier_uniform_", tensor)
    bound = gain * math.sqrt(6.0 / (fan_in + fan_out))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """Normal with standard deviation gain · √(2 / (fan_in + fan_out)) (Glorot and Bengio, 2010).

    >>> import tinygrad_nn as tg
    >>> tg.nn.init.xavier_normal_(tg.empty((2, 4))).shape
    (2, 4)
    """
    fan_in, fan_out = _fans("xavier_normal_", tensor)
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)


def kaiming_uniform_(
    tensor: T,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Uniform in ±gain · √(3 / fan), with the gain of `nonlinearity` (of slope `a`) (He et al., 2015).

    >>> import tinygrad_nn as tg
    >>> w = tg.nn.init.kaiming_uniform_(tg.empty((2, 6)), nonlinearity="relu")
    >>> bool((abs(w) <= 1.0).all())
    True
    """
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _fan("kaiming_uniform_", tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: T,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> T:
    """Normal with standard deviation gain / √fan, with the gain of `nonlinearity` (of slope `a`) (He et al., 2015).

    >>> import tinygrad_nn as tg
    >>> tg.nn.init.kaiming_normal_(tg.empty((2, 6)), mode="fan_out").shape
    (2, 6)
    """
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan("kaiming_normal_", tensor, mode))
    return normal_(tensor, 0.0, std, generator)


def orthogonal_(tensor: T, gain: float = 1.0, generator: Generator | None = None) -> T:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times `gain` (Saxe et al., 2013).

    Axes after the first count as one.

    >>> import tinygrad_nn as tg
    >>> w = tg.nn.init.orthogonal_(tg.empty((2, 3)))
    >>> bool((abs(w @ w.T - tg.eye(2)) < 1e-5).all())
    True
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: needs at least 2 axes, not {describe(tensor)}")
    rows = tensor.shape[0]
    columns = tensor.size // rows if rows else 0
    if not tensor.size:
        return tensor
    normal = _generator(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(normal)
    q *= np.sign(np.diagonal(r))  # makes the decomposition unique, and so the draw uniform (Mezzadri, 2006)
    return _fill("orthogonal_", tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def _fill(name: str, tensor: T, values: Any) -> T:
    if tensor.dtype.kind != "f":
        raise DTypeError(f"{name}: {describe(tensor)} is not floating")
    if not tensor.is_leaf:
        raise ArgumentError(f"{name}: {describe(tensor)} is the result of an operation; fill a tensor nothing made")
    array = tensor._array()
    array[...] = values
    writes.note(array, name)
    return tensor


def _generator(generator: Generator | None) -> Generator:
    return default_generator() if generator is None else generator


def _drawn(tensor: Tensor) -> Any:
    """The dtype to draw in: NumPy draws float32 and float64 only."""
    return np.float32 if tensor.dtype == np.float32 else np.float64


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ShapeError(f"{name}: fans need a weight of shape (out, in, ...), not {describe(tensor)}")
    fan_out, fan_in, *kernel = tensor.shape
    if not tensor.size:
        raise ShapeError(f"{name}: {describe(tensor)} has no elements, so its fans are 0")
    size = math.prod(kernel)
    return fan_in * size, fan_out * size


def _fan(name: str, tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"{name}: mode must be 'fan_in' or 'fan_out', not {mode!r}")
    return _fans(name, tensor)[mode == "fan_out"]
