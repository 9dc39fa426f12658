"""Operations with a planted mistake in their gradient, each with a correct twin's forward: what checks must notice."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_nn as tg
from tinygrad_nn.autograd import Function


class Cube(Function):
    """Right: the control."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3.0 * grad * x * x


class Factor(Cube):
    """2 in place of 3."""

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2.0 * grad * x * x


class Sign(Cube):
    """The wrong sign."""

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return -3.0 * grad * x * x


class NoUpstream(Cube):
    """The incoming gradient is forgotten."""

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3.0 * x * x + 0.0 * grad


class NegativeSide(Cube):
    """Wrong for x < 0 only."""

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3.0 * grad * x * abs(x)


class LastElement(Cube):
    """Wrong in the last of two or more elements."""

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        good = (3.0 * grad * x * x).data.copy()
        if good.size > 1:
            good.flat[-1] *= 1.5
        return tg.tensor(good)


class Affine(Function):
    """x @ w + b whose gradient by b is not summed over rows, but taken from the first."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, b: Any) -> Any:
        ctx.save_for_backward(x, w)
        return x @ w + b

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad, grad[0]


class Buried(Function):
    """Right, but the value is so large beside what moves that nobody can see it."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return tg.asarray(1e14 + 1e-3 * np.sin(x.data))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return 1e-3 * grad * tg.cos(ctx.saved_tensors[0])
