"""Activation functions as modules."""

from __future__ import annotations

from typing import Any, Literal

from . import functional as F
from .module import Module


class Identity(Module):
    """Returns what it is given.

    >>> import tinygrad_nn as tg
    >>> tg.nn.Identity()(3)
    3
    """

    def forward(self, x: Any) -> Any:
        """x"""
        return x


class Step(Module):
    """1 where x > 0, else 0: the activation of the first perceptrons. Its slope is 0, so nothing learns through it.

    >>> import tinygrad_nn as tg
    >>> tg.nn.Step()(tg.tensor([-1.0, 1.0, 2.0]))
    tensor([0, 1, 1])
    """

    def forward(self, x: Any) -> Any:
        """1 where x > 0, else 0, as integers."""
        return F.step(x)


class Sigmoid(Module):
    """1 / (1 + e⁻ˣ), element by element.

    >>> import tinygrad_nn as tg
    >>> tg.nn.Sigmoid()(tg.tensor(0.0))
    tensor(0.5)
    """

    def forward(self, x: Any) -> Any:
        """1 / (1 + e⁻ˣ)"""
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, element by element.

    >>> import tinygrad_nn as tg
    >>> tg.nn.Tanh()(tg.tensor(0.0))
    tensor(0.)
    """

    def forward(self, x: Any) -> Any:
        """tanh x"""
        return F.tanh(x)


class ReLU(Module):
    """The larger of x and 0, element by element.

    >>> import tinygrad_nn as tg
    >>> tg.nn.ReLU()(tg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    def forward(self, x: Any) -> Any:
        """The larger of x and 0."""
        return F.relu(x)


class LeakyReLU(Module):
    """x where positive, else `negative_slope` · x.

    >>> import tinygrad_nn as tg
    >>> tg.nn.LeakyReLU(0.1)(tg.tensor([-1.0, 2.0]))
    tensor([-0.1,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        """x where positive, else `negative_slope` · x."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """The slope."""
        return f"negative_slope={self.negative_slope}"


class GELU(Module):
    """x Φ(x), with Φ the normal distribution function; `approximate="tanh"` for its well-known approximation.

    >>> import tinygrad_nn as tg
    >>> tg.nn.GELU()(tg.tensor(0.0))
    tensor(0.)
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        self.approximate: Literal["none", "tanh"] = approximate

    def forward(self, x: Any) -> Any:
        """x Φ(x)"""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """The approximation, if any."""
        return "" if self.approximate == "none" else f"approximate={self.approximate!r}"


class SiLU(Module):
    """x / (1 + e⁻ˣ), element by element; also called swish.

    >>> import tinygrad_nn as tg
    >>> tg.nn.SiLU()(tg.tensor(0.0))
    tensor(0.)
    """

    def forward(self, x: Any) -> Any:
        """x / (1 + e⁻ˣ)"""
        return F.silu(x)


class Softplus(Module):
    """ln(1 + e^(βx)) / β, element by element: a smooth ReLU. Where βx exceeds `threshold` it is x itself.

    >>> import tinygrad_nn as tg
    >>> round(tg.nn.Softplus()(tg.tensor(0.0)).item(), 4)
    0.6931
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = beta
        self.threshold = threshold

    def forward(self, x: Any) -> Any:
        """ln(1 + e^(βx)) / β"""
        return F.softplus(x, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Steepness and threshold."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Module):
    """eˣ divided by its sum along axis `dim`: probabilities.

    >>> import tinygrad_nn as tg
    >>> tg.nn.Softmax()(tg.tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """

    def __init__(self, dim: int | tuple[int, ...] | None = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """eˣ / Σ eˣ"""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """The logarithm of softmax along axis `dim`, without its underflow.

    >>> import tinygrad_nn as tg
    >>> tg.nn.LogSoftmax()(tg.tensor([0.0, -1000.0]))
    tensor([    0., -1000.])
    """

    def __init__(self, dim: int | tuple[int, ...] | None = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """x - ln Σ eˣ"""
        return F.log_softmax(x, self.dim)

    def extra_repr(self) -> str:
        """The axis."""
        return f"dim={self.dim}"
