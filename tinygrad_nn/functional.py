"""Functions composed of operations: further activations, one-hot vectors, dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._types import ArrayLike, DTypeLike
from .errors import ArgumentError, DTypeError, describe
from .ops.elementwise import (
    clip,
    erf,
    expm1,
    greater,
    hardtanh as _hardtanh,
    leaky_relu as _leaky_relu,
    softplus,
    tanh,
    where,
)
from .ops.shape import astype
from .random import default_generator, floats
from .strong_zero import values
from .tensor import Tensor, constant, to_array


def step(x: ArrayLike) -> Any:
    """Heaviside's step: 1 where `x` is above 0, else 0, as integers. Its slope is 0, so it carries no gradient.

    >>> import tinygrad_nn as tg
    >>> tg.functional.step(tg.tensor([-1.0, 0.0, 2.0]))
    tensor([0, 0, 1])
    """
    return astype(greater(x, 0), np.int64)


def log_sigmoid(x: ArrayLike) -> Any:
    """ln σ(x) = -ln(1 + e⁻ˣ), finite for all finite `x`.

    >>> import tinygrad_nn as tg
    >>> tg.functional.log_sigmoid(tg.tensor([-1000.0, 1000.0]))
    tensor([-1000.,    -0.])
    """
    return -softplus(-operand(x))


def leaky_relu(x: ArrayLike, negative_slope: ArrayLike = 0.01) -> Any:
    """`x` where it is above 0, else `negative_slope` · x. The slope at 0 is `negative_slope`, as in PyTorch.

    >>> import tinygrad_nn as tg
    >>> tg.functional.leaky_relu(tg.tensor([-2.0, 3.0]), 0.5)
    tensor([-1.,  3.])
    """
    return _leaky_relu(operand(x), negative_slope)


def elu(x: ArrayLike, alpha: float = 1.0) -> Any:
    """`x` where it is above 0, else `alpha` · (eˣ - 1). The slope at 0 is `alpha`, as in PyTorch.

    >>> import tinygrad_nn as tg
    >>> tg.functional.elu(tg.tensor([-1000.0, 3.0]))
    tensor([-1.,  3.])
    """
    a = operand(x)
    return where(a > 0, a, expm1(clip(a, max=0.0)) * alpha)


def gelu(x: ArrayLike, approximate: str = "none") -> Any:
    """The Gaussian error linear unit x · Φ(x), Φ being the normal distribution function.

    With `approximate="tanh"`: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).

    Reference: Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415.

    >>> import tinygrad_nn as tg
    >>> tg.functional.gelu(tg.tensor([0.0, 10.0]))
    tensor([ 0., 10.])
    """
    a = operand(x)
    if approximate == "none":
        return a * (erf(a * math.sqrt(0.5)) * 0.5 + 0.5)
    if approximate == "tanh":
        return a * (tanh((a + a * a * a * 0.044715) * math.sqrt(2.0 / math.pi)) * 0.5 + 0.5)
    raise ArgumentError(f'gelu: approximate {approximate!r} is neither "none" nor "tanh"')


def hardtanh(x: ArrayLike, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """`x` limited to [min_val, max_val]. The slope at both bounds is 0, as in PyTorch (that of `clip` is 1).

    >>> import tinygrad_nn as tg
    >>> tg.functional.hardtanh(tg.tensor([-2.0, 0.5, 2.0]))
    tensor([-1. ,  0.5,  1. ])
    """
    if not min_val < max_val:
        raise ArgumentError(f"hardtanh: min_val {min_val} must be less than max_val {max_val}")
    return _hardtanh(operand(x), min_val, max_val)


def relu6(x: ArrayLike) -> Any:
    """`x` limited to [0, 6]. The slope at both bounds is 0.

    >>> import tinygrad_nn as tg
    >>> tg.functional.relu6(tg.tensor([-2.0, 0.5, 7.0]))
    tensor([0. , 0.5, 6. ])
    """
    return hardtanh(x, 0.0, 6.0)


def one_hot(indices: ArrayLike, num_classes: int = -1, dtype: DTypeLike = np.int64) -> Any:
    """A last axis of `num_classes` zeros is added, with a one at each index; -1 makes as many as the largest needs.

    `indices` are integers from 0 to num_classes - 1, of any shape.

    >>> import tinygrad_nn as tg
    >>> tg.functional.one_hot(tg.tensor([0, 2]), 3)
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    index = np.asarray(values(indices)) if isinstance(indices, Tensor) else to_array(indices, None)
    if index.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: {describe(index)} are not integers")
    if num_classes == -1:
        if not index.size:
            raise ArgumentError("one_hot: without any index, num_classes must be given")
        num_classes = int(index.max()) + 1
    if index.size and not 0 <= index.min() <= index.max() < num_classes:
        raise ArgumentError(
            f"one_hot: indices {index.min()} to {index.max()}, but {num_classes} classes are numbered "
            f"0 to {num_classes - 1}"
        )
    each = indices if isinstance(indices, Tensor) else index
    return astype(each[..., None] == np.arange(num_classes), dtype)


def dropout(x: ArrayLike, p: float = 0.5, training: bool = True, generator: np.random.Generator | None = None) -> Any:
    """In training, each element of `x` becomes 0 with probability `p` and the others are divided by 1 - p; else `x`.

    Random numbers come from `generator`, or the default one (see `manual_seed`).

    Reference: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15 (2014).

    >>> import numpy as np
    >>> import tinygrad_nn as tg
    >>> x = tg.ones(1000)
    >>> y = tg.functional.dropout(x, 0.2, generator=np.random.default_rng(0))
    >>> sorted(set(y.tolist()))
    [0.0, 1.25]
    """
    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout: p {p} is not a probability")
    a = operand(x)
    if not training or p == 0:
        return a
    if a.dtype.kind != "f":
        raise DTypeError(f"dropout: {describe(a)} is not floating")
    kept = (floats((generator or default_generator()).random, a.shape, a.dtype, "dropout") >= p).astype(a.dtype)
    if p < 1:
        kept *= 1.0 / (1.0 - p)
    return a * kept


def operand(x: ArrayLike, name: str = "") -> Any:
    """`x`, an argument of `name`, as what operators work on: Tensors and arrays as they are, lists as arrays."""
    return x if isinstance(x, Tensor | np.ndarray) else np.asarray(constant(x, name))
