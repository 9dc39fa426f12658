"""What networks are made of, as functions with PyTorch's names, arguments and values.

Losses take `reduction="mean"` (the default), `"sum"` or `"none"`. The mean over no element is NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._types import ArrayLike
from ..batched import Batched
from ..errors import ArgumentError, DTypeError, ShapeError, describe
from ..functional import dropout, elu, gelu, hardtanh, leaky_relu, log_sigmoid, one_hot, operand, relu6, step
from ..ops import loss as _loss, softmax as _softmax
from ..ops.elementwise import absolute, clip, relu, sigmoid, silu, softplus as _softplus, tanh, where
from ..ops.index import take
from ..ops.linalg import linear
from ..ops.reduce import sum as _sum
from ..ops.window import avg_pool2d, conv2d, embedding, max_pool2d
from ..strong_zero import values
from ..tensor import Tensor

logsigmoid = log_sigmoid

__all__ = [
    "avg_pool2d",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "conv2d",
    "cross_entropy",
    "dropout",
    "elu",
    "embedding",
    "gelu",
    "hardtanh",
    "huber_loss",
    "l1_loss",
    "leaky_relu",
    "linear",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "step",
    "tanh",
]

# -- activations -------------------------------------------------------------------------------------------------------


def softmax(
    input: ArrayLike, dim: int | tuple[int, ...] | None = -1, *, axis: int | tuple[int, ...] | None = -1
) -> Any:
    """The exponentials of `input` divided by their sum over `dim` (or `axis`, its NumPy name; None for all).

    >>> import tinygrad_nn as tg
    >>> tg.nn.functional.softmax(tg.tensor([[0.0, 0.0], [0.0, 1000.0]]), dim=1)
    tensor([[0.5, 0.5],
            [0. , 1. ]])
    """
    return _softmax.softmax(input, dim if axis == -1 else axis)


def log_softmax(
    input: ArrayLike, dim: int | tuple[int, ...] | None = -1, *, axis: int | tuple[int, ...] | None = -1
) -> Any:
    """The logarithm of softmax over `dim` (or `axis`, its NumPy name; None for all), exact where softmax rounds to 0.

    >>> import tinygrad_nn as tg
    >>> tg.nn.functional.log_softmax(tg.tensor([[0.0, 1000.0]]), dim=1)
    tensor([[-1000.,     0.]])
    """
    return _softmax.log_softmax(input, dim if axis == -1 else axis)


def softplus(input: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """ln(1 + exp(beta · x)) / beta, and x itself where beta · x is above `threshold`.

    >>> import tinygrad_nn as tg
    >>> tg.nn.functional.softplus(tg.tensor([-100.0, 100.0]), beta=0.5)
    tensor([3.8574998e-22, 1.0000000e+02])
    """
    x = operand(input)
    scaled = x * beta
    return where(scaled > threshold, x, _softplus(scaled) / beta)


# -- losses: classes ---------------------------------------------------------------------------------------------------


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Softmax and negative log likelihood in one: -ln softmax(input)[target].

    `input` holds logits, of shape (N, C), (N, C, d₁, ...) or (C,). `target` holds class numbers, of the same shape
    without C; or probabilities of the classes, floating, of the shape of `input`. `weight` (C,) weighs the classes; the
    mean is then over the weights of the targets (with probabilities: over the samples). Samples whose class number is
    `ignore_index` do not count. `label_smoothing` ε mixes the targets with the uniform distribution:
    (1 - ε) · target + ε / C.

    >>> import tinygrad_nn as tg
    >>> logits = tg.tensor([[0.0, 0.0], [0.0, 1000.0]], requires_grad=True)
    >>> loss = tg.nn.functional.cross_entropy(logits, tg.tensor([0, 1]))
    >>> loss
    tensor(0.3465736, from cross_entropy)
    >>> loss.backward()
    >>> logits.grad
    tensor([[-0.25,  0.25],
            [ 0.  ,  0.  ]])
    """
    x, y = operand(input, "cross_entropy"), operand(target, "cross_entropy")
    check_reduction("cross_entropy", reduction)
    _check_floating("cross_entropy", x)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"cross_entropy: label_smoothing {label_smoothing} is not between 0 and 1")
    weight = _class_weight("cross_entropy", weight, x)
    if y.dtype.kind == "f" and y.shape == x.shape and x.shape:
        return _of_probabilities(x, y, weight, reduction, label_smoothing)
    _check_classes("cross_entropy", x, y)
    if label_smoothing:
        return _smoothed(x, y, weight, ignore_index, reduction, label_smoothing)
    return _loss.cross_entropy(x, y, weight=weight, ignore_index=ignore_index, reduction=reduction)


def _of_probabilities(x: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> Any:
    axis = min(x.ndim - 1, 1)
    if smoothing:
        target = target * (1.0 - smoothing) + smoothing / x.shape[axis]
    losses = -_sum(_softmax.log_softmax(x, axis) * _along(weight, x) * target, axis)
    return _reduce("cross_entropy", losses, reduction)


def _smoothed(x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    axis = min(x.ndim - 1, 1)
    logs = _softmax.log_softmax(x, axis)
    aimed = _loss.nll_loss(logs, target, weight=weight, ignore_index=ignore_index, reduction=reduction)
    counted = target != ignore_index
    counts = counted.astype(x.dtype)
    uniform = -_sum(logs * _along(weight, x), axis) * counts
    if reduction != "none":
        uniform = _sum(uniform)
    if reduction == "mean":
        total = _sum(counts if weight is None else take(weight, where(counted, target, 0)) * counts)
        uniform = where(total == 0, 0.0, uniform / where(total == 0, 1.0, total))  # then the other part is NaN
    return aimed * (1.0 - smoothing) + uniform * (smoothing / x.shape[axis])


def _along(weight: Any, x: Any) -> Any:
    """Class weights in a shape that multiplies logits; 1 if there are none."""
    return 1.0 if weight is None else weight.reshape(-1, *(1,) * (x.ndim - 2))


def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """Negative log likelihood: -input[target], where `input` holds log probabilities, as from `log_softmax`.

    Shapes, `weight` and `ignore_index` are those of `cross_entropy` with class numbers.

    >>> import tinygrad_nn as tg
    >>> logs = tg.log(tg.tensor([[0.25, 0.75], [0.5, 0.5]]))
    >>> tg.nn.functional.nll_loss(logs, tg.tensor([0, 1]), reduction="none")
    tensor([1.3862944, 0.6931472])
    """
    x, y = operand(input, "nll_loss"), operand(target, "nll_loss")
    check_reduction("nll_loss", reduction)
    _check_floating("nll_loss", x)
    _check_classes("nll_loss", x, y)
    weight = _class_weight("nll_loss", weight, x)
    return _loss.nll_loss(x, y, weight=weight, ignore_index=ignore_index, reduction=reduction)


# -- losses: yes or no -------------------------------------------------------------------------------------------------


def binary_cross_entropy(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, reduction: str = "mean"
) -> Any:
    """-t · ln p - (1 - t) · ln(1 - p) for probabilities p in [0, 1]; logarithms are cut off at -100.

    `binary_cross_entropy_with_logits` does it for logits, and more precisely. `weight` multiplies the losses.

    >>> import tinygrad_nn as tg
    >>> tg.nn.functional.binary_cross_entropy(tg.tensor([0.5, 0.0]), tg.tensor([1.0, 1.0]), reduction="none")
    tensor([  0.6931472, 100.       ])
    """
    p, t = _pair("binary_cross_entropy", input, target)
    given = np.asarray(values(p))
    if given.size and not (given.min() >= 0 and given.max() <= 1):
        raise ArgumentError(
            f"binary_cross_entropy: input from {given.min()} to {given.max()} holds no probabilities. "
            "For logits use binary_cross_entropy_with_logits."
        )
    return _reduce("binary_cross_entropy", _weighed(_loss.binary_cross_entropy(p, t), weight), reduction)


def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
) -> Any:
    """-t · ln σ(x) - (1 - t) · ln(1 - σ(x)) for logits x, finite and precise for all finite x.

    `weight` multiplies the losses, `pos_weight` only their first term; both broadcast.

    >>> import tinygrad_nn as tg
    >>> logits = tg.tensor([-1000.0, 0.0, 1000.0])
    >>> tg.nn.functional.binary_cross_entropy_with_logits(logits, tg.ones(3), reduction="none")
    tensor([1.000000e+03, 6.931472e-01, 0.000000e+00])
    """
    x, t = _pair("binary_cross_entropy_with_logits", input, target)
    if pos_weight is None:
        losses = _loss.binary_cross_entropy_with_logits(x, t)
    else:
        losses = _softplus(-x) * t * _beside(pos_weight, x) + _softplus(x) * (1 - t)
    return _reduce("binary_cross_entropy_with_logits", _weighed(losses, weight), reduction)


# -- losses: numbers ---------------------------------------------------------------------------------------------------


def mse_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Any:
    """The squared error (input - target)², averaged.

    Both have one shape, or one of them is a single number. (n, 1) against (n,) would broadcast to n² differences, and
    is refused.

    >>> import tinygrad_nn as tg
    >>> tg.nn.functional.mse_loss(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 4.0]))
    tensor(2.)
    """
    a, b = _pair("mse_loss", input, target)
    if reduction == "mean":
        size = a.size if a.shape else b.size
        return _loss.squared_error(a, b, share=1.0 / size if size else math.nan)
    if reduction == "sum":
        return _loss.squared_error(a, b, share=1.0)
    d = a - b
    return _reduce("mse_loss", d * d, reduction)


def l1_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean") -> Any:
    """The absolute error |input - target|, averaged; shapes as for `mse_loss`. Its slope at 0 is 0.

    >>> import tinygrad_nn as tg
    >>> tg.nn.functional.l1_loss(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 4.0]))
    tensor(1.)
    """
    a, b = _pair("l1_loss", input, target)
    return _reduce("l1_loss", absolute(a - b), reduction)


def huber_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", delta: float = 1.0) -> Any:
    """d²/2 for differences up to `delta`, and delta · (|d| - delta/2) beyond, averaged; shapes as for `mse_loss`.

    >>> import tinygrad_nn as tg
    >>> tg.nn.functional.huber_loss(tg.tensor([0.5, 3.0]), tg.tensor([0.0, 0.0]), reduction="none")
    tensor([0.125, 2.5  ])
    """
    if not delta > 0:
        raise ArgumentError(f"huber_loss: delta {delta} must be positive")
    a, b = _pair("huber_loss", input, target)
    return _reduce("huber_loss", _huber(a - b, delta), reduction)


def smooth_l1_loss(input: ArrayLike, target: ArrayLike, *, reduction: str = "mean", beta: float = 1.0) -> Any:
    """d²/(2 beta) for differences below `beta`, and |d| - beta/2 beyond: `huber_loss` / beta. With beta 0, `l1_loss`.

    >>> import tinygrad_nn as tg
    >>> tg.nn.functional.smooth_l1_loss(tg.tensor([0.5, 3.0]), tg.tensor([0.0, 0.0]), reduction="none")
    tensor([0.125, 2.5  ])
    """
    if not beta >= 0:
        raise ArgumentError(f"smooth_l1_loss: beta {beta} must not be negative")
    a, b = _pair("smooth_l1_loss", input, target)
    return _reduce("smooth_l1_loss", _huber(a - b, beta) / beta if beta else absolute(a - b), reduction)


def _huber(d: Any, delta: float) -> Any:
    near = clip(d, -delta, delta)
    return near * (d - near * 0.5)


# -- arguments ---------------------------------------------------------------------------------------------------------


def _pair(name: str, input: ArrayLike, target: ArrayLike) -> tuple[Any, Any]:
    """Both arguments of a loss that compares element by element."""
    a: Any = input
    b: Any = target
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        a, b = _beside(input, target), _beside(target, input)
    if a.shape != b.shape and a.shape and b.shape:
        raise ShapeError(
            f"{name}: input {describe(a)} and target {describe(b)} must have one shape. Broadcasting one over an axis "
            "of the other would compare elements that do not belong together; reshape one of them."
        )
    return a, b


def _beside(x: ArrayLike, other: ArrayLike) -> Any:
    """`x` as an array; a Python number takes the dtype of what stands beside it."""
    if isinstance(x, int | float) and not isinstance(other, int | float):
        return np.asarray(x, np.result_type(operand(other).dtype, x))
    return operand(x)


def _check_floating(name: str, x: Any) -> None:
    if x.dtype.kind != "f":
        raise DTypeError(f"{name}: input {describe(x)} must be floating")


def _check_classes(name: str, x: Any, target: Any) -> None:
    shape = x.shape
    if target.dtype.kind not in "iu":
        raise DTypeError(
            f"{name}: target {describe(target)} for input {describe(x)}: class numbers must be integers"
            + (", and probabilities must have the shape of the input" if name == "cross_entropy" else "")
        )
    if not shape or target.shape != shape[:1] * (len(shape) > 1) + shape[2:]:
        hint = ""
        if target.shape == shape and shape:
            hint = ". One-hot targets must be floating: target.astype(input.dtype)" if name == "cross_entropy" else ""
        raise ShapeError(
            f"{name}: target {describe(target)} for input {describe(x)}: class numbers have the shape of the input "
            f"without the class axis (axis 1, or the only one){hint}"
        )


def _class_weight(name: str, weight: ArrayLike | None, x: Any) -> Any:
    """The weights of the classes as an array of the dtype of `x`."""
    if weight is None:
        return None
    if isinstance(weight, Tensor) and weight.requires_grad:
        raise ArgumentError(f"{name}: weight requires a gradient, but the loss has none for it; pass weight.detach()")
    if isinstance(weight, Batched):
        raise ArgumentError(f"{name}: inside vmap weight is the same for all examples, not {weight!r}")
    array = np.asarray(values(operand(weight)), x.dtype)
    classes = x.shape[min(len(x.shape) - 1, 1)] if x.shape else 0
    if array.shape != (classes,):
        raise ShapeError(f"{name}: weight {describe(array)} must have shape ({classes},), one number for each class")
    return array


def check_reduction(name: str, reduction: str) -> str:
    """`reduction`, if it is one of the three."""
    if reduction not in ("mean", "sum", "none"):
        raise ArgumentError(f'{name}: reduction {reduction!r} is not "mean", "sum" or "none"')
    return reduction


def _reduce(name: str, losses: Any, reduction: str) -> Any:
    check_reduction(name, reduction)
    if reduction == "none":
        return losses
    total = _sum(losses)
    return total if reduction == "sum" else total * (1.0 / losses.size if losses.size else math.nan)


def _weighed(losses: Any, weight: ArrayLike | None) -> Any:
    return losses if weight is None else losses * _beside(weight, losses)
