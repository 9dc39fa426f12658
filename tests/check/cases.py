"""Right and wrong gradients on which gradient checkers have been seen to err: (function, inputs, right verdicts)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_nn as tg

GOOD = ("pass",)
BAD = ("fail",)
KINK = ("valid at kink",)
UNCLEAR = ("inconclusive",)


def function(forward: Callable[..., Any], vjp: Callable[..., Any]) -> Callable[..., Any]:
    """A custom operation from `forward(x)` and `vjp(g, x)` on arrays."""

    class Custom(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return tg.asarray(forward(x.data))

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return tg.asarray(vjp(grad.data, ctx.saved_tensors[0].data))

    return Custom.apply


class Case(NamedTuple):
    """A case: `forward` and `vjp` on arrays, `make(rng)` for the input, and the verdicts that are right."""

    forward: Callable[..., Any]
    vjp: Callable[..., Any]
    make: Callable[[np.random.Generator], Any]
    right: tuple[str, ...]

    def __call__(self, x: Any) -> Any:
        return function(self.forward, self.vjp)(x)


def normal(*shape: int, dtype: Any = np.float64) -> Callable[[np.random.Generator], Any]:
    return lambda rng: rng.standard_normal(shape).astype(dtype)


def fixed(*values: float) -> Callable[[np.random.Generator], Any]:
    return lambda rng: np.array(values)


def sin_vjp(g: Any, x: Any) -> Any:
    return g * np.cos(x)


def one_wrong(factor: float) -> Callable[[Any, Any], Any]:
    def vjp(g: Any, x: Any) -> Any:
        out = g * np.cos(x)
        out[out.size // 3] *= factor
        return out

    return vjp


def unsort(g: Any, x: Any) -> Any:
    out = np.empty_like(g)
    out[np.argsort(x)] = g
    return out


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def relu_vjp(g: Any, x: Any) -> Any:
    return g * (x > 0)


PUBLIC: dict[str, Case] = {
    "sin": Case(np.sin, sin_vjp, normal(5), GOOD),
    "gradient x 1.01": Case(np.sin, lambda g, x: 1.01 * g * np.cos(x), normal(5), BAD),
    "gradient x 1.0005": Case(np.sin, lambda g, x: 1.0005 * g * np.cos(x), normal(5), BAD),
    "gradient x 1.00001": Case(np.sin, lambda g, x: 1.00001 * g * np.cos(x), normal(5), BAD),
    "ignores upstream gradient": Case(np.sin, lambda g, x: np.cos(x), normal(5), BAD),
    "1e-6 sin, gradient 0": Case(lambda x: 1e-6 * np.sin(x), lambda g, x: 0 * g, normal(5), BAD),
    "1 of 1000 sign-flipped": Case(np.sin, one_wrong(-1.0), normal(1000), BAD),
    "1 of 1000 off by 2 %": Case(np.sin, one_wrong(1.02), normal(1000), BAD),
    "sort not permuted back": Case(np.sort, lambda g, x: g.copy(), normal(1000), BAD),
    "cumsum not reversed": Case(np.cumsum, lambda g, x: np.cumsum(g), normal(5), BAD),
    "1e9 + sin": Case(lambda x: 1e9 + np.sin(x), sin_vjp, normal(5), GOOD),
    "1e12 + sin": Case(lambda x: 1e12 + np.sin(x), sin_vjp, normal(5), UNCLEAR),
    "sin(1e5 x)": Case(lambda x: np.sin(1e5 * x), lambda g, x: 1e5 * g * np.cos(1e5 * x), normal(5), GOOD),
    "relu 1e-8 from kink": Case(relu, relu_vjp, fixed(1e-8, -1e-8), GOOD),
    "relu at 0, gradient 0": Case(relu, relu_vjp, fixed(0.0), KINK),
    "sqrt at 1e-7": Case(np.sqrt, lambda g, x: g / (2 * np.sqrt(x)), fixed(1e-7), GOOD),
    "exp at 300": Case(np.exp, lambda g, x: g * np.exp(x), fixed(300.0), GOOD),
    "sin in float32": Case(np.sin, sin_vjp, normal(5, dtype=np.float32), GOOD),
    "sin in float16": Case(np.sin, sin_vjp, normal(5, dtype=np.float16), GOOD + UNCLEAR),
}


def max_tie(weights: tuple[float, float]) -> Callable[[Any, Any], Any]:
    return lambda g, x: np.asarray(g) * np.array(weights)


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max())
    return e / e.sum()


def logsumexp(x: Any) -> Any:
    return np.log(np.sum(np.exp(x - x.max()))) + x.max()


def one_in(vjp: Callable[[Any, Any], Any], k: int, factor: float) -> Callable[[Any, Any], Any]:
    def wrong(g: Any, x: Any) -> Any:
        out = vjp(g, x)
        out[k] *= factor
        return out

    return wrong


A = np.random.default_rng(5).standard_normal((4, 4))
EXTRA: dict[str, Case] = {
    "abs at 0": Case(np.abs, lambda g, x: g * np.sign(x), fixed(0.0), KINK),
    "abs at 0 among others": Case(np.abs, lambda g, x: g * np.sign(x), fixed(0.0, 1.0, -2.0, 0.0), KINK),
    "abs at 0, gradient 2": Case(np.abs, lambda g, x: g * np.where(x == 0, 2, np.sign(x)), fixed(0.0, 1.0), BAD),
    "relu zeros, another wrong": Case(
        relu,
        lambda g, x: g * (x > 0) * np.where(x == 2, 1.02, 1.0),
        lambda r: np.array([0.0] * 20 + [2.0] + [1] * 20),
        BAD,
    ),
    "sum of relu zeros": Case(
        lambda x: np.sum(relu(x)), lambda g, x: g * (x > 0), lambda r: np.array([0.0, 0, 1, -1, 0]), KINK
    ),
    "sum of relu zeros, another wrong": Case(
        lambda x: np.sum(relu(x)), lambda g, x: 1.001 * g * (x > 0), lambda r: np.array([0.0, 0, 1, -1, 0]), BAD
    ),
    "signed sum of relu zeros": Case(
        lambda x: np.sum(relu(x) * np.arange(-2, 3)),
        lambda g, x: g * (x > 0) * np.arange(-2, 3),
        fixed(0, 0, 0, 0, 0.0),
        KINK,
    ),
    "max tie, even": Case(np.max, max_tie((0.5, 0.5)), fixed(1.0, 1.0), KINK),
    "max tie, all to the first": Case(np.max, max_tie((1.0, 0.0)), fixed(1.0, 1.0), KINK),
    "max tie, both": Case(np.max, max_tie((1.0, 1.0)), fixed(1.0, 1.0), BAD),
    "max tie, none": Case(np.max, max_tie((0.0, 0.0)), fixed(1.0, 1.0), BAD),
    "saturated tanh": Case(np.tanh, lambda g, x: g * (1 - np.tanh(x) ** 2), fixed(8.0, -7.0), GOOD),
    "very saturated tanh": Case(np.tanh, lambda g, x: g / np.cosh(x) ** 2, fixed(20.0), GOOD + UNCLEAR),
    "log at 1e-9": Case(np.log, lambda g, x: g / x, fixed(1e-9), GOOD),
    "log at 1e-9 and 1": Case(np.log, lambda g, x: g / x, fixed(1e-9, 1.0, 30.0), GOOD),
    "log at 1e-20 and 1": Case(np.log, lambda g, x: g / x, fixed(1e-20, 1.0, 30.0), GOOD + UNCLEAR),
    "log at 1e-9, wrong": Case(np.log, lambda g, x: 1.00001 * g / x, fixed(1e-9), BAD),
    "sin(1/x)": Case(lambda x: np.sin(1 / x), lambda g, x: -g * np.cos(1 / x) / x**2, fixed(0.01, 0.02), GOOD),
    "sqrt at 0": Case(np.sqrt, lambda g, x: g / (2 * np.sqrt(x)), fixed(0.0), UNCLEAR),
    "cbrt at 0": Case(np.cbrt, lambda g, x: g / (3 * np.cbrt(x) ** 2), fixed(0.0), UNCLEAR),
    "x^1.5 at 0": Case(lambda x: x**1.5, lambda g, x: 1.5 * g * np.sqrt(x), fixed(0.0), GOOD + KINK + UNCLEAR),
    "square at 0": Case(np.square, lambda g, x: 2 * g * x, fixed(0.0), GOOD),
    "cube at 0": Case(lambda x: x**3, lambda g, x: 3 * g * x**2, fixed(0.0), GOOD),
    "cos at 0": Case(np.cos, lambda g, x: -g * np.sin(x), fixed(0.0), GOOD),
    "cos at 0, gradient 1e-6": Case(np.cos, lambda g, x: g * 1e-6, fixed(0.0), BAD),
    "constant": Case(lambda x: 0 * x + 3, lambda g, x: 0 * g, normal(4), GOOD),
    "step": Case(lambda x: (x > 0) * 1.0, lambda g, x: 0 * g, normal(4), GOOD),
    "step at 0": Case(lambda x: (x > 0) * 1.0, lambda g, x: 0 * g, fixed(0.0), UNCLEAR),
    "1e9 + sin, wrong by half": Case(lambda x: 1e9 + np.sin(x), lambda g, x: 1.5 * g * np.cos(x), normal(5), BAD),
    "1e12 + sin, wrong by half": Case(
        lambda x: 1e12 + np.sin(x), lambda g, x: 1.5 * g * np.cos(x), normal(5), BAD + UNCLEAR
    ),
    "hidden cancellation": Case(lambda x: (1e9 + np.sin(x)) - 1e9, sin_vjp, normal(5), GOOD + UNCLEAR),
    "hidden float32": Case(
        lambda x: np.sin(x.astype(np.float32)).astype(np.float64), sin_vjp, normal(5), GOOD + UNCLEAR
    ),
    "(1 - cos x) / x^2": Case(
        lambda x: (1 - np.cos(x)) / x**2,
        lambda g, x: g * (x * np.sin(x) - 2 + 2 * np.cos(x)) / x**3,
        fixed(0.01),
        GOOD + UNCLEAR,
    ),
    "tiny scale": Case(lambda x: 1e-200 * np.sin(x), lambda g, x: 1e-200 * g * np.cos(x), normal(5), GOOD),
    "tiny scale, wrong": Case(lambda x: 1e-200 * np.sin(x), lambda g, x: 1.001e-200 * g * np.cos(x), normal(5), BAD),
    "huge scale": Case(lambda x: 1e200 * np.sin(x), lambda g, x: 1e200 * g * np.cos(x), normal(5), GOOD),
    "large inputs": Case(np.sin, sin_vjp, fixed(1e6, -3e7), GOOD),
    "mixed scales": Case(np.exp, lambda g, x: g * np.exp(x), fixed(-300.0, -20.0, 0.0, 20.0), GOOD),
    "mixed scales, the smallest wrong": Case(
        np.exp, one_in(lambda g, x: g * np.exp(x), 0, 1.01), fixed(-30.0, -20.0, 0.0, 20.0), BAD
    ),
    "softmax": Case(softmax, lambda g, x: softmax(x) * (g - np.sum(g * softmax(x))), normal(6), GOOD),
    "softmax, mean forgotten": Case(softmax, lambda g, x: softmax(x) * g, normal(6), BAD),
    "logsumexp, large": Case(logsumexp, lambda g, x: g * softmax(x), fixed(1000.0, 1001.0, 990.0), GOOD),
    "transposed": Case(lambda x: x @ A, lambda g, x: g @ A, normal(4), BAD),
    "not transposed, right": Case(lambda x: x @ A, lambda g, x: g @ A.T, normal(4), GOOD),
    "one of 1000 a millionth off": Case(np.sin, one_wrong(1 + 1e-6), normal(1000), BAD),
    "x |x| at 0": Case(lambda x: x * np.abs(x), lambda g, x: 2 * g * np.abs(x), fixed(0.0), GOOD),
    "clip at the bound": Case(
        lambda x: np.clip(x, -1, 1), lambda g, x: g * (np.abs(x) <= 1), fixed(1.0, -1.0, 0.3, 2.0), KINK
    ),
    "huber near the seam": Case(
        lambda x: np.where(np.abs(x) < 1, x * x / 2, np.abs(x) - 0.5),
        lambda g, x: g * np.clip(x, -1, 1),
        fixed(1.0, -1.0, 0.999999, 3.0),
        GOOD + KINK,
    ),
    "gradient plus 1e-7": Case(np.sin, lambda g, x: g * np.cos(x) + 1e-7, normal(5), BAD),
    "float32 factor 1.001": Case(
        np.sin, lambda g, x: g * np.cos(x) * np.float32(1.001), normal(5, dtype=np.float32), BAD
    ),
}
