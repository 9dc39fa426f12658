"""Higher derivatives that nobody here computed: PyTorch's, Cauchy's integral over complex values, closed forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.domains import Reals
from tinygrad_nn.registry import OPS
from tinygrad_nn.testing.domain_arrays import intervals

try:
    import torch
except ImportError:  # the tests of third derivatives do without
    torch = None  # type: ignore[assignment]

# PyTorch's forward mode compiles something the old way when it first runs.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")
Array = np.ndarray[Any, Any]
Way = Callable[..., Any]
RNG = np.random.default_rng(0)

# -- Jacobians, Hessians and products: the same functions in both libraries --------------------------------------------

OURS = SimpleNamespace(
    func=tg.func, tanh=tg.tanh, solve=tg.linalg.solve, logsumexp=tg.logsumexp, softmax=tg.softmax, stack=tg.stack,
    log_softmax=tg.log_softmax, sigmoid=tg.sigmoid, array=tg.Tensor, back=lambda t: t.data,
    cross_entropy=tg.nn.functional.cross_entropy,
)  # fmt: skip
THEIRS = torch and SimpleNamespace(
    func=torch.func, tanh=torch.tanh, solve=torch.linalg.solve, logsumexp=torch.logsumexp, softmax=torch.softmax,
    stack=torch.stack, log_softmax=torch.log_softmax, sigmoid=torch.sigmoid, array=torch.tensor,
    back=lambda t: t.detach().numpy(), cross_entropy=torch.nn.functional.cross_entropy,
)  # fmt: skip


def rosenbrock(lib: Any, x: Any) -> Any:
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def rosenbrock_residuals(lib: Any, x: Any) -> Any:
    return lib.stack([10.0 * (x[1:] - x[:-1] ** 2), 1.0 - x[:-1]])


def mlp(lib: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return lib.sigmoid(lib.tanh(x @ w1 + b1) @ w2 + b2)


LABELS = RNG.integers(0, 6, 5)


def cross_entropy(lib: Any, logits: Any) -> Any:
    return lib.cross_entropy(logits, lib.array(LABELS))


def cross_entropy_by_hand(lib: Any, logits: Any) -> Any:
    return -lib.log_softmax(logits, 1)[np.arange(5), LABELS].mean()


def solve(lib: Any, a: Any, b: Any) -> Any:
    return lib.solve(a, b)


def logsumexp(lib: Any, x: Any) -> Any:
    return lib.logsumexp(x, 1)


STEPS = RNG.normal(size=(20, 3))


def rnn(lib: Any, w: Any, u: Any, h: Any) -> Any:
    for x in STEPS:
        h = lib.tanh(w @ h + u @ lib.array(x))
    return h


# name: (function, arguments)
PROBLEMS: dict[str, tuple[Way, tuple[Array, ...]]] = {
    "Rosenbrock": (rosenbrock, (RNG.normal(size=50),)),
    "residuals of Rosenbrock": (rosenbrock_residuals, (RNG.normal(size=50),)),
    "MLP": (mlp, tuple(RNG.normal(size=s) / 2 for s in [(4, 6), (6, 8), (8,), (8, 3), (3,)])),
    "softmax": (lambda lib, x: lib.softmax(x, 1), (RNG.normal(size=(3, 5)),)),
    "cross-entropy": (cross_entropy, (RNG.normal(size=(5, 6)),)),
    "cross-entropy, by hand": (cross_entropy_by_hand, (RNG.normal(size=(5, 6)),)),
    "linear solve": (solve, (RNG.normal(size=(5, 5)) + 4 * np.eye(5), RNG.normal(size=5))),
    "linear solve, batch": (solve, (RNG.normal(size=(2, 3, 3)) + 4 * np.eye(3), RNG.normal(size=(2, 3, 2)))),
    "logsumexp": (logsumexp, (3 * RNG.normal(size=(4, 6)),)),
    "RNN of 20 steps": (rnn, (RNG.normal(size=(4, 4)) / 2, RNG.normal(size=(4, 3)), RNG.normal(size=4))),
}


def flat(tree: Any) -> list[Any]:
    return [leaf for part in tree for leaf in flat(part)] if isinstance(tree, tuple | list) else [tree]


def assert_same(ours: Any, theirs: Any, rtol: float = 1e-12) -> None:
    """Block by block equal shapes, and to `rtol` of the largest number of the block."""
    mine, other = [OURS.back(t) for t in flat(ours)], [THEIRS.back(t) for t in flat(theirs)]
    assert len(mine) == len(other)
    for a, b in zip(mine, other, strict=True):
        assert a.shape == b.shape
        assert np.max(np.abs(a - b), initial=0.0) <= rtol * np.max(np.abs(b), initial=0.0)


def both(name: str, run: Callable[[Any, Way, list[Any]], Any], theirs: Any = THEIRS) -> tuple[Any, Any]:
    """`run(library, function, arguments)` in both libraries."""
    fn, args = PROBLEMS[name]
    ours, other = (run(lib, lambda *xs, lib=lib: fn(lib, *xs), list(map(lib.array, args))) for lib in (OURS, theirs))
    return ours, other


def number(fn: Way) -> Way:
    """A number made of what `fn` returns, curved in it."""
    return lambda *xs: (fn(*xs) ** 2).sum() + fn(*xs).sum()


@needs_torch
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("mode", ["jacrev", "jacfwd"])
def test_jacobians(name: str, mode: str) -> None:
    every = tuple(range(len(PROBLEMS[name][1])))
    assert_same(*both(name, lambda lib, fn, args: getattr(lib.func, mode)(fn, every)(*args)))


@needs_torch
@pytest.mark.parametrize("name", PROBLEMS)
def test_hessians(name: str) -> None:
    every = tuple(range(len(PROBLEMS[name][1])))
    assert_same(*both(name, lambda lib, fn, args: lib.func.hessian(number(fn), every)(*args)))


@needs_torch
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("modes", ["ff", "fr", "rf", "rr"])
def test_products_with_the_hessian(name: str, modes: str) -> None:
    """In all four combinations of modes: outer, inner."""
    directions = [np.random.default_rng(7).normal(size=a.shape) for a in PROBLEMS[name][1]]
    every = tuple(range(len(directions)))

    def product(lib: Any, fn: Way, args: list[Any]) -> Any:
        func, moves = lib.func, [lib.array(d) for d in directions]
        slope = lambda *xs: func.jvp(number(fn), xs, tuple(moves))[1]  # noqa: E731  # v · gradient
        if modes == "ff":
            return func.jvp(slope, tuple(args), tuple(moves))[1]
        if modes == "rf":
            return func.grad(slope, every)(*args)
        gradient = func.grad(number(fn), every)
        if modes == "fr":
            return func.jvp(gradient, tuple(args), tuple(moves))[1]
        return func.vjp(gradient, *args)[1](tuple(moves))

    # PyTorch 2.13 differentiates its forward mode of `linalg.solve` wrongly, but not that of `inv`.
    right = SimpleNamespace(**{**vars(THEIRS), "solve": lambda a, b: torch.linalg.inv(a) @ b})
    assert_same(*both(name, product, right if modes[1] == "f" else THEIRS))
    if modes == "fr":
        fn, args = PROBLEMS[name]
        found = tg.func.hvp(number(lambda *xs: fn(OURS, *xs)), tuple(map(tg.Tensor, args)), tuple(directions))
        assert_same(found, both(name, product)[1])


# -- third derivatives of the elementary functions ---------------------------------------------------------------------

UNARY = [op.name for op in OPS.values() if op.kind == "elementwise" and len(op.vjps) == 1]
ANALYTIC = [name for name in UNARY if OPS[name].analytic]
RADIUS, POINTS = 0.05, 64


def places(name: str) -> Array:
    """Points all over the domain of an operation."""
    (domain,) = OPS[name].domain
    assert isinstance(domain, Reals)
    return np.concatenate([np.linspace(a, b, 7) for a, b in intervals(domain)])


def cauchy(fn: Way, x: Array) -> Array:
    """f‴ from values of f on a circle: 3! / (2πi) ∮ f(z) / (z - x)⁴ dz; the sum converges geometrically."""
    turn = np.exp(2j * np.pi * np.arange(POINTS) / POINTS)
    values = np.array([fn(x + RADIUS * t) for t in turn])
    return np.real(6 * np.mean(values * turn[:, None] ** -3, axis=0) / RADIUS**3)


def along(fn: Way) -> Way:
    return lambda x: tg.func.jvp(fn, (x,), (np.ones_like(x.data if isinstance(x, tg.Tensor) else x),))[1]


def slope(fn: Way) -> Way:
    return lambda x: tg.func.grad(lambda x: fn(x).sum())(x)


def third(fn: Way, modes: str, x: Array) -> Array:
    """The third derivative, element by element, in three nested modes, the innermost last."""
    for mode in reversed(modes):
        fn = along(fn) if mode == "f" else slope(fn)
    return np.asarray(fn(tg.Tensor(x)).data)


def assert_third(fn: Way, x: Array, wanted: Array, rtol: float = 1e-10) -> None:
    for modes in map("".join, itertools.product("fr", repeat=3)):
        np.testing.assert_array_less(np.abs(third(fn, modes, x) - wanted) / np.maximum(1, np.abs(wanted)), rtol, modes)


@pytest.mark.parametrize("name", ANALYTIC)
def test_third_derivatives_are_cauchys(name: str) -> None:
    x = places(name)
    assert_third(OPS[name].call, x, cauchy(OPS[name].forward, x))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


# Where the forward takes no complex numbers, and for a second opinion: f‴ worked out by hand.
THIRD: dict[str, Way] = {
    "cbrt": lambda x: 10 / 27 * np.cbrt(x) / x**3,
    "softplus": lambda x: sigmoid(x) * (1 - sigmoid(x)) * (1 - 2 * sigmoid(x)),
    "erf": lambda x: (8 * x**2 - 4) / math.sqrt(math.pi) * np.exp(-(x**2)),
    "deg2rad": lambda x: 0 * x,
    "rad2deg": lambda x: 0 * x,
    "exp2": lambda x: math.log(2) ** 3 * 2**x,
    "log10": lambda x: 2 / math.log(10) / x**3,
    "sqrt": lambda x: 3 / 8 * x**-2.5,
    "sin": lambda x: -np.cos(x),
    "cos": np.sin,
    "tan": lambda x: (2 + 4 * np.sin(x) ** 2) / np.cos(x) ** 4,
    "arcsin": lambda x: (1 + 2 * x**2) / (1 - x**2) ** 2.5,
    "arctan": lambda x: (6 * x**2 - 2) / (1 + x**2) ** 3,
    "tanh": lambda x: (4 * np.sinh(x) ** 2 - 2) / np.cosh(x) ** 4,
    "arctanh": lambda x: (2 + 6 * x**2) / (1 - x**2) ** 3,
    "reciprocal": lambda x: -6 / x**4,
}


@pytest.mark.parametrize("name", THIRD)
def test_third_derivatives_by_hand(name: str) -> None:
    x = places(name)
    assert_third(OPS[name].call, x, THIRD[name](x))


def test_every_smooth_function_has_its_third_derivative_tested() -> None:
    kinked = [name for name in UNARY if OPS[name].ties]
    assert set(UNARY) == {*ANALYTIC, *THIRD, *kinked}


@pytest.mark.parametrize(
    ("fn", "wanted"),
    [
        (lambda x: x**2.7, lambda x: 2.7 * 1.7 * 0.7 * x**-0.3),
        (lambda x: 1.7**x, lambda x: math.log(1.7) ** 3 * 1.7**x),
        (lambda x: x**x, lambda x: x**x * ((np.log(x) + 1) ** 3 + 3 * (np.log(x) + 1) / x - 1 / x**2)),
        (lambda x: 1 / (x * x), lambda x: -24 / x**5),
        (lambda x: tg.arctan2(x, 2.0), lambda x: 4 * (3 * x**2 - 4) / (x**2 + 4) ** 3),
        (lambda x: tg.hypot(x, 1.0), lambda x: -3 * x / (1 + x * x) ** 2.5),
        (lambda x: tg.logaddexp(x, 0.0), lambda x: sigmoid(x) * (1 - sigmoid(x)) * (1 - 2 * sigmoid(x))),
    ],
    ids=["x^p", "a^x", "x^x", "1/x²", "arctan2", "hypot", "logaddexp"],
)
def test_third_derivatives_of_functions_of_two(fn: Way, wanted: Way) -> None:
    x = np.linspace(0.3, 3.0, 7)
    assert_third(fn, x, wanted(x))


@needs_torch
@pytest.mark.parametrize("name", [name for name in UNARY if not OPS[name].ties])
def test_third_derivatives_are_pytorchs(name: str) -> None:
    renamed = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh",
               "arctanh": "atanh"}  # fmt: skip
    theirs = {"softplus": torch.nn.functional.softplus, "silu": torch.nn.functional.silu}.get(name)
    theirs = theirs or getattr(torch, renamed.get(name, name), None)
    if theirs is None:
        pytest.skip("PyTorch has no such function")
    t = torch.tensor(places(name), requires_grad=True)
    y = theirs(t)
    for _ in range(3):
        if not y.requires_grad:  # linear functions run out of derivatives
            y = torch.zeros_like(t)
            break
        (y,) = torch.autograd.grad(y.sum(), t, create_graph=True, materialize_grads=True)
    np.testing.assert_allclose(
        third(OPS[name].call, "frf", t.detach().numpy()), y.detach().numpy(), rtol=1e-10, atol=1e-10
    )
