"""Layers with weights, and the small ones between them. Weight layouts and starting values are PyTorch's."""

from __future__ import annotations

import math
import operator
from typing import Any

from .._types import DTypeLike
from ..creation import empty
from ..errors import ArgumentError, ShapeError, describe
from ..ops.linalg import linear
from ..ops.shape import flatten, shape_of
from ..ops.window import embedding
from . import functional as F, init
from .module import Module, Parameter


def size(layer: str, argument: str, value: int) -> int:
    """`value`, if it is a whole number of at least 1."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ArgumentError(f"{layer}: {argument} must be an integer of at least 1, not {value!r}")
    return number


class Linear(Module):
    """x Wᵀ + b: `weight` (out_features, in_features), `bias` (out_features,), both uniform in ±1/√in_features at first.

    >>> import tinygrad_nn as tg
    >>> layer = tg.nn.Linear(784, 50)
    >>> layer(tg.ones((32, 784))).shape
    (32, 50)
    >>> layer
    Linear(in_features=784, out_features=50)  39,250 parameters
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, dtype: DTypeLike | None = None) -> None:
        self.in_features = size("Linear", "in_features", in_features)
        self.out_features = size("Linear", "out_features", out_features)
        self.weight = Parameter(empty((out_features, in_features), dtype))
        self.bias = Parameter(empty(out_features, dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw starting values."""
        bound = 1.0 / math.sqrt(self.in_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        """(..., in_features) to (..., out_features)."""
        try:
            return linear(x, self.weight, self.bias)
        except ShapeError:
            shape = shape_of(x)
            if shape[-1:] != (self.in_features,):
                last = f"{shape[-1]} features (its last axis)" if shape else "no axis"
                raise ShapeError(
                    f"Linear({self.extra_repr()}): the input {describe(x)} has {last}, "
                    f"not in_features={self.in_features}"
                ) from None
            raise

    def extra_repr(self) -> str:
        """Sizes, and whether there is no bias."""
        text = f"in_features={self.in_features}, out_features={self.out_features}"
        return text if self.bias is not None else text + ", bias=False"


class Embedding(Module):
    """A table of vectors looked up by number: `weight` (num_embeddings, embedding_dim), normal at first.

    The row `padding_idx` starts as zeros and gets no gradient.

    >>> import tinygrad_nn as tg
    >>> tg.nn.Embedding(10, 3)(tg.tensor([[1, 2], [4, 1]])).shape
    (2, 2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.num_embeddings = size("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = size("Embedding", "embedding_dim", embedding_dim)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ArgumentError(f"Embedding: padding_idx={padding_idx} is not one of {num_embeddings} rows")
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        self.weight = Parameter(empty((num_embeddings, embedding_dim), dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw starting values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight._array()[self.padding_idx] = 0

    def forward(self, indices: Any) -> Any:
        """Integers of any shape (...) to (..., embedding_dim)."""
        return embedding(indices, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Sizes, and the padding row if there is one."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"


class Flatten(Module):
    """The axes from `start_dim` to `end_dim` made one; at first all but the first, which counts the examples.

    >>> import tinygrad_nn as tg
    >>> tg.nn.Flatten()(tg.ones((8, 32, 4, 4))).shape
    (8, 512)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Any) -> Any:
        """The axes from `start_dim` to `end_dim` as one."""
        return flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """In training, sets each element to 0 with probability `p` and divides the others by 1 - p; else does nothing.

    >>> import tinygrad_nn as tg
    >>> layer = tg.nn.Dropout(0.5)
    >>> layer.eval()(tg.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p is a probability, from 0 to 1, not {p!r}")
        self.p = p

    def forward(self, x: Any) -> Any:
        """`x`, in training with some elements set to 0."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"
