"""Values and derivatives worked out by hand and written down as constants.

Nothing here is computed by a helper that could be wrong in the same way as the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg

# function of one number: at x, its value, first and second derivative
SCALARS: list[tuple[str, Callable[[Any], Any], float, float, float, float]] = [
    ("x + 3", lambda x: x + 3, 2.0, 5.0, 1.0, 0.0),
    ("3 - x", lambda x: 3 - x, 2.0, 1.0, -1.0, 0.0),
    ("x - x", lambda x: x - x, 2.0, 0.0, 0.0, 0.0),
    ("4x", lambda x: 4 * x, 2.0, 8.0, 4.0, 0.0),
    ("x * x", lambda x: x * x, 3.0, 9.0, 6.0, 2.0),
    ("x * x * x", lambda x: x * x * x, 2.0, 8.0, 12.0, 12.0),
    ("x ** 3", lambda x: x**3, 2.0, 8.0, 12.0, 12.0),
    ("x ** 2 at 0", lambda x: x**2, 0.0, 0.0, 0.0, 2.0),
    ("x ** 1 at 0", lambda x: x**1, 0.0, 0.0, 1.0, 0.0),
    ("x ** 0 at 0", lambda x: x**0, 0.0, 1.0, 0.0, 0.0),
    ("x ** -1", lambda x: x**-1, 2.0, 0.5, -0.25, 0.25),
    ("x ** 0.5", lambda x: x**0.5, 4.0, 2.0, 0.25, -0.03125),
    ("2 ** x", lambda x: 2.0**x, 3.0, 8.0, 5.545177444479562, 3.843624111345611),
    ("x ** x", lambda x: x**x, 2.0, 4.0, 6.772588722239782, 13.46698950015237),
    ("1 / x", lambda x: 1 / x, 2.0, 0.5, -0.25, 0.25),
    ("6 / x", lambda x: 6 / x, -2.0, -3.0, -1.5, -1.5),
    ("x / 4", lambda x: x / 4, 2.0, 0.5, 0.25, 0.0),
    ("x / (1 + x)", lambda x: x / (1 + x), 1.0, 0.5, 0.25, -0.25),
    ("-x", lambda x: -x, 2.0, -2.0, -1.0, 0.0),
    ("+x", lambda x: +x, 2.0, 2.0, 1.0, 0.0),
    ("abs(x), x < 0", lambda x: abs(x), -2.0, 2.0, -1.0, 0.0),
    ("abs(x) at 0", lambda x: abs(x), 0.0, 0.0, 0.0, 0.0),
    ("x * abs(x)", lambda x: x * abs(x), -3.0, -9.0, 6.0, -2.0),
    ("square", tg.square, -3.0, 9.0, -6.0, 2.0),
    ("reciprocal", tg.reciprocal, 4.0, 0.25, -0.0625, 0.03125),
    ("sqrt", tg.sqrt, 4.0, 2.0, 0.25, -0.03125),
    ("cbrt", tg.cbrt, 8.0, 2.0, 0.08333333333333333, -0.006944444444444444),
    ("exp", tg.exp, 1.0, 2.718281828459045, 2.718281828459045, 2.718281828459045),
    ("exp(x²)", lambda x: tg.exp(x * x), 1.0, 2.718281828459045, 5.43656365691809, 16.30969097075427),
    ("exp2", tg.exp2, 2.0, 4.0, 2.772588722239781, 1.9218120556728056),
    ("expm1", tg.expm1, 0.0, 0.0, 1.0, 1.0),
    ("log", tg.log, 2.0, 0.6931471805599453, 0.5, -0.25),
    ("log2", tg.log2, 8.0, 3.0, 0.18033688011112042, -0.022542110013890053),
    ("log10", tg.log10, 100.0, 2.0, 0.004342944819032518, -4.342944819032518e-05),
    ("log1p", tg.log1p, 1.0, 0.6931471805599453, 0.5, -0.25),
    ("x log x", lambda x: x * tg.log(x), 1.0, 0.0, 1.0, 1.0),
    ("sin", tg.sin, 1.0, 0.8414709848078965, 0.5403023058681398, -0.8414709848078965),
    ("sin at 0", tg.sin, 0.0, 0.0, 1.0, 0.0),
    ("cos", tg.cos, 1.0, 0.5403023058681398, -0.8414709848078965, -0.5403023058681398),
    ("cos at 0", tg.cos, 0.0, 1.0, 0.0, -1.0),
    ("tan at pi/4", tg.tan, 0.7853981633974483, 1.0, 2.0, 4.0),
    ("sin² + cos²", lambda x: tg.sin(x) ** 2 + tg.cos(x) ** 2, 0.7, 1.0, 0.0, 0.0),
    ("arcsin", tg.arcsin, 0.5, 0.5235987755982989, 1.1547005383792515, 0.769800358919501),
    ("arccos", tg.arccos, 0.5, 1.0471975511965979, -1.1547005383792515, -0.769800358919501),
    ("arctan", tg.arctan, 1.0, 0.7853981633974483, 0.5, -0.5),
    ("sinh", tg.sinh, 1.0, 1.1752011936438014, 1.5430806348152437, 1.1752011936438014),
    ("cosh", tg.cosh, 1.0, 1.5430806348152437, 1.1752011936438014, 1.5430806348152437),
    ("tanh", tg.tanh, 1.0, 0.7615941559557649, 0.41997434161402614, -0.6397000084492246),
    ("tanh at 0", tg.tanh, 0.0, 0.0, 1.0, 0.0),
    ("arcsinh", tg.arcsinh, 0.0, 0.0, 1.0, 0.0),
    ("arccosh", tg.arccosh, 1.25, 0.6931471805599453, 1.3333333333333333, -2.962962962962963),
    ("arctanh", tg.arctanh, 0.5, 0.5493061443340549, 1.3333333333333333, 1.7777777777777777),
    ("sigmoid at 0", tg.sigmoid, 0.0, 0.5, 0.25, 0.0),
    ("sigmoid", tg.sigmoid, 1.0, 0.7310585786300049, 0.19661193324148185, -0.09085774767294841),
    ("softplus", tg.softplus, 0.0, 0.6931471805599453, 0.5, 0.25),
    ("silu at 0", tg.silu, 0.0, 0.0, 0.5, 0.5),
    ("relu, x > 0", tg.relu, 2.0, 2.0, 1.0, 0.0),
    ("relu, x < 0", tg.relu, -2.0, 0.0, 0.0, 0.0),
    ("relu at 0", tg.relu, 0.0, 0.0, 0.0, 0.0),
    ("relu²", lambda x: tg.relu(x) ** 2, 3.0, 9.0, 6.0, 2.0),
    ("erf at 0", tg.erf, 0.0, 0.0, 1.1283791670955126, 0.0),
    ("erf", tg.erf, 1.0, 0.8427007929497149, 0.4151074974205947, -0.8302149948411894),
    ("clip inside", lambda x: tg.clip(x, -1, 1) ** 2, 0.5, 0.25, 1.0, 2.0),
    ("clip at its bound", lambda x: tg.clip(x, -1, 1) ** 2, 1.0, 1.0, 2.0, 2.0),
    ("clip outside", lambda x: tg.clip(x, -1, 1) ** 2, 1.5, 1.0, 0.0, 0.0),
    ("maximum(x, 2x), x > 0", lambda x: tg.maximum(x, 2 * x), 1.0, 2.0, 2.0, 0.0),
    ("maximum(x, x)", lambda x: tg.maximum(x, x), 1.0, 1.0, 1.0, 0.0),
    ("maximum(x, 2x) at 0", lambda x: tg.maximum(x, 2 * x), 0.0, 0.0, 1.5, 0.0),
    ("minimum(x², x) at 1", lambda x: tg.minimum(x * x, x), 1.0, 1.0, 1.5, 1.0),
    ("sign", tg.sign, -3.0, -1.0, 0.0, 0.0),
    ("floor", tg.floor, 2.5, 2.0, 0.0, 0.0),
    ("x % 3", lambda x: x % 3.0, 7.0, 1.0, 1.0, 0.0),
    ("7 % x", lambda x: 7.0 % x, 3.0, 1.0, -2.0, 0.0),
    ("hypot(x, 4)", lambda x: tg.hypot(x, 4.0), 3.0, 5.0, 0.6, 0.128),
    ("arctan2(x, 1)", lambda x: tg.arctan2(x, 1.0), 1.0, 0.7853981633974483, 0.5, -0.5),
    ("logaddexp(x, 0)", lambda x: tg.logaddexp(x, 0.0), 0.0, 0.6931471805599453, 0.5, 0.25),
    ("where, taken", lambda x: tg.where(x > 0, x**3, x), 2.0, 8.0, 12.0, 12.0),
    ("where, not taken", lambda x: tg.where(x > 0, x**3, 5 * x), -2.0, -10.0, 5.0, 0.0),
    ("the sum of a broadcast x", lambda x: tg.broadcast_to(x * x, (2, 3)).sum(), 3.0, 54.0, 36.0, 12.0),
    ("the product of (x, x, x)", lambda x: tg.stack([x, x, x]).prod(), 2.0, 8.0, 12.0, 12.0),
    ("(x, 1)·(x, x)", lambda x: tg.dot(tg.stack([x, tg.ones_like(x)]), tg.stack([x, x])), 3.0, 12.0, 7.0, 2.0),
    ("a chain", lambda x: tg.log(1 + tg.exp(2 * x)), 0.0, 0.6931471805599453, 1.0, 1.0),
]


@pytest.mark.parametrize(("fn", "x", "value", "first", "second"), [c[1:] for c in SCALARS], ids=[c[0] for c in SCALARS])
def test_scalar(fn: Callable[[Any], Any], x: float, value: float, first: float, second: float) -> None:
    t = tg.Tensor(np.float64(x), requires_grad=True)
    y = fn(t)
    assert y.dtype == np.float64
    assert y.item() == pytest.approx(value, rel=4e-15, abs=4e-15)
    (g,) = tg.autograd.grad(y, t, create_graph=True)
    assert g.item() == pytest.approx(first, rel=1e-14, abs=1e-15)
    h = tg.autograd.grad(g, t, allow_unused=True)[0] if g.requires_grad else None
    assert (0.0 if h is None else h.item()) == pytest.approx(second, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize(("fn", "x", "value", "first", "second"), [c[1:] for c in SCALARS], ids=[c[0] for c in SCALARS])
def test_scalar_forward_mode(fn: Callable[[Any], Any], x: float, value: float, first: float, second: float) -> None:
    y, dy = tg.func.jvp(fn, (np.float64(x),), (np.float64(1.0),))
    assert y.item() == pytest.approx(value, rel=4e-15, abs=4e-15)
    assert dy.item() == pytest.approx(first, rel=1e-14, abs=1e-15)
    ddy = tg.func.jvp(lambda t: tg.func.jvp(fn, (t,), (np.float64(1.0),))[1], (np.float64(x),), (np.float64(1.0),))[1]
    assert ddy.item() == pytest.approx(second, rel=1e-13, abs=1e-15)


def test_fourth_derivative() -> None:
    f = tg.func.grad
    assert f(f(f(f(lambda x: x**5))))(np.float64(2.0)).item() == 240.0
    assert f(f(f(f(tg.sin))))(np.float64(1.0)).item() == pytest.approx(0.8414709848078965, rel=1e-15)


# functions of several arrays: the gradient of each, for a cotangent of ones (or the one given)
ARRAYS: list[tuple[str, Callable[..., Any], list[Any], list[Any]]] = [
    ("a + b broadcast", lambda a, b: a + b, [[[1.0, 2.0], [3.0, 4.0]], [10.0, 20.0]], [[[1, 1], [1, 1]], [2, 2]]),
    ("a - b broadcast", lambda a, b: a - b, [[[1.0], [2.0]], [3.0, 4.0, 5.0]], [[[3], [3]], [-2, -2, -2]]),
    ("a * b", lambda a, b: a * b, [[2.0, 3.0], [5.0, 7.0]], [[5, 7], [2, 3]]),
    ("a * b broadcast", lambda a, b: a * b, [[[1.0, 2.0], [3.0, 4.0]], 10.0], [[[10, 10], [10, 10]], 10]),
    ("a / b", lambda a, b: a / b, [[6.0], [2.0]], [[0.5], [-1.5]]),
    ("a ** b", lambda a, b: a**b, [[2.0, 1.0], [3.0, 5.0]], [[12, 5], [5.545177444479562, 0]]),
    ("arctan2", tg.arctan2, [[3.0], [4.0]], [[0.16], [-0.12]]),
    ("hypot", tg.hypot, [[3.0], [4.0]], [[0.6], [0.8]]),
    ("maximum", tg.maximum, [[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]], [[0, 1, 0.5], [1, 0, 0.5]]),
    ("minimum", tg.minimum, [[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]], [[1, 0, 0.5], [0, 1, 0.5]]),
    ("A B", lambda a, b: a @ b, [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]],
     [[[11, 15]] * 2, [[4, 4], [6, 6]]]),
    ("A v", lambda a, v: a @ v, [[[1.0, 2.0], [3.0, 4.0]], [5.0, 6.0]], [[[5, 6], [5, 6]], [4, 6]]),
    ("v A", lambda v, a: v @ a, [[5.0, 6.0], [[1.0, 2.0], [3.0, 4.0]]], [[3, 7], [[5, 5], [6, 6]]]),
    ("u v", lambda u, v: u @ v, [[1.0, 2.0], [3.0, 4.0]], [[3, 4], [1, 2]]),
    ("outer", tg.outer, [[1.0, 2.0], [3.0, 4.0, 5.0]], [[12, 12], [3, 3, 3]]),
    ("einsum trace of product", lambda a, b: tg.einsum("ij,ji->", a, b),
     [[[1.0, 2.0]], [[3.0], [4.0]]], [[[3, 4]], [[1], [2]]]),
    ("sum of squares", lambda x: (x**2).sum(), [[1.0, -2.0, 3.0]], [[2, -4, 6]]),
    ("mean", lambda x: x.mean(), [[[1.0, 2.0], [3.0, 4.0]]], [[[0.25, 0.25], [0.25, 0.25]]]),
    ("mean of an axis", lambda x: x.mean(axis=0), [[[1.0, 2.0], [3.0, 4.0]]], [[[0.5, 0.5], [0.5, 0.5]]]),
    ("var", lambda x: x.var(), [[1.0, 2.0, 6.0]], [[-4 / 3, -2 / 3, 2.0]]),
    ("var, correction 1", lambda x: x.var(correction=1), [[1.0, 2.0, 6.0]], [[-2, -1, 3]]),
    ("std", lambda x: x.std(), [[1.0, 3.0]], [[-0.5, 0.5]]),
    ("std of equals", lambda x: x.std(), [[2.0, 2.0]], [[0, 0]]),
    ("max", lambda x: x.max(), [[1.0, 3.0, 3.0]], [[0, 0.5, 0.5]]),
    ("min of an axis", lambda x: x.min(axis=1), [[[1.0, 2.0], [4.0, 4.0]]], [[[1, 0], [0.5, 0.5]]]),
    ("prod", lambda x: x.prod(), [[2.0, 3.0, 4.0]], [[12, 8, 6]]),
    ("prod with a zero", lambda x: x.prod(), [[2.0, 0.0, 4.0]], [[0, 8, 0]]),
    ("prod with two zeros", lambda x: x.prod(), [[0.0, 0.0, 4.0]], [[0, 0, 0]]),
    ("cumsum", lambda x: tg.cumsum(x), [[1.0, 2.0, 3.0]], [[3, 2, 1]]),
    ("cumprod", lambda x: tg.cumprod(x), [[2.0, 3.0, 4.0]], [[16, 10, 6]]),
    ("reshape", lambda x: (x.reshape(2, 2) * np.array([[1.0, 2.0], [3.0, 4.0]])),
     [[5.0, 6.0, 7.0, 8.0]], [[1, 2, 3, 4]]),
    ("transpose", lambda x: x.T * np.array([[1.0, 2.0]]), [[[5.0], [6.0]]], [[[1], [2]]]),
    ("concat", lambda a, b: tg.concat([a, b]) * np.array([1.0, 2.0, 3.0]), [[5.0], [6.0, 7.0]], [[1], [2, 3]]),
    ("stack", lambda a, b: tg.stack([a, b]) * np.array([[1.0, 2.0], [3.0, 4.0]]),
     [[5.0, 6.0], [7.0, 8.0]], [[1, 2], [3, 4]]),
    ("pad", lambda x: tg.pad(x, 1) * np.array([1.0, 2.0, 3.0, 4.0]), [[5.0, 6.0]], [[2, 3]]),
    ("flip", lambda x: tg.flip(x) * np.array([1.0, 2.0, 3.0]), [[5.0, 6.0, 7.0]], [[3, 2, 1]]),
    ("roll", lambda x: tg.roll(x, 1) * np.array([1.0, 2.0, 3.0]), [[5.0, 6.0, 7.0]], [[2, 3, 1]]),
    ("x[[0, 0, 2]]", lambda x: x[[0, 0, 2]], [[5.0, 6.0, 7.0]], [[2, 0, 1]]),
    ("x[1:] * x[:-1]", lambda x: x[1:] * x[:-1], [[5.0, 6.0, 7.0]], [[6, 12, 6]]),
    ("x[mask]", lambda x: x[np.array([True, False, True])] ** 2, [[5.0, 6.0, 7.0]], [[10, 0, 14]]),
    ("index_update", lambda x, v: tg.index_update(x, 1, v) ** 2, [[5.0, 6.0, 7.0], 2.0], [[10, 0, 14], 4]),
    ("clip", lambda x: tg.clip(x, 0, 1), [[-1.0, 0.0, 0.5, 1.0, 2.0]], [[0, 1, 1, 1, 0]]),
    ("where", lambda a, b: tg.where(np.array([True, False]), a, b), [[1.0, 2.0], [3.0, 4.0]], [[1, 0], [0, 1]]),
    ("linear", lambda x, w, b: tg.linear(x, w, b), [[[1.0, 2.0]], [[3.0, 4.0]], [5.0]], [[[3, 4]], [[1, 2]], [1]]),
    ("a tensor used four times", lambda x: x * x + x * x, [[1.0, 3.0]], [[4, 12]]),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "inputs", "wanted"), [c[1:] for c in ARRAYS], ids=[c[0] for c in ARRAYS])
def test_arrays(fn: Callable[..., Any], inputs: list[Any], wanted: list[Any]) -> None:
    xs = [tg.Tensor(np.array(x, np.float64), requires_grad=True) for x in inputs]
    y = fn(*xs)
    y.backward(np.ones(y.shape))
    for x, g in zip(xs, wanted, strict=True):
        np.testing.assert_allclose(x.grad.data, np.array(g, float), rtol=1e-14, atol=1e-15)
        assert x.grad.dtype == np.float64


def test_softmax_and_its_losses() -> None:
    x = tg.Tensor(np.array([0.0, 0.6931471805599453]), requires_grad=True)  # (0, ln 2): softmax is (1/3, 2/3)
    y = tg.softmax(x)
    np.testing.assert_allclose(y.data, [0.3333333333333333, 0.6666666666666666], rtol=1e-15)
    y[0].backward()
    np.testing.assert_allclose(x.grad.data, [0.2222222222222222, -0.2222222222222222], rtol=1e-14)
    x.grad = None
    tg.logsumexp(x).backward()
    np.testing.assert_allclose(x.grad.data, [0.3333333333333333, 0.6666666666666666], rtol=1e-14)
    x.grad = None
    loss = -tg.log_softmax(x)[0]
    assert loss.item() == pytest.approx(1.0986122886681098, rel=1e-15)
    loss.backward()
    np.testing.assert_allclose(x.grad.data, [-0.6666666666666666, 0.6666666666666666], rtol=1e-14)


def test_hessian_of_rosenbrock() -> None:
    """f = (1 - x)² + 100 (y - x²)² at (1, 2): gradient (-400, 200), Hessian ((402, -400), (-400, 200))."""
    p = tg.Tensor(np.array([1.0, 2.0]), requires_grad=True)
    f = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    assert f.item() == 100.0
    (g,) = tg.autograd.grad(f, p, create_graph=True)
    np.testing.assert_allclose(g.data, [-400.0, 200.0], rtol=1e-14)
    rows = [tg.autograd.grad(g[i], p, retain_graph=True)[0].data for i in range(2)]
    np.testing.assert_allclose(rows, [[402.0, -400.0], [-400.0, 200.0]], rtol=1e-14)


def test_three_layers_by_hand() -> None:
    """x = 2 through sigmoid-free layers: y = 3·relu(2·relu(x) - 1) = 9, dy/dx = 6, weights 12, 9, biases 6, 3."""
    x, v, w, b, c = (tg.Tensor(np.float64(n), requires_grad=True) for n in (2.0, 2.0, 3.0, -1.0, 0.0))
    y = w * tg.relu(v * tg.relu(x) + b) + c
    y.backward()
    assert [t.item() for t in (y, x.grad, v.grad, w.grad, b.grad, c.grad)] == [9.0, 6.0, 6.0, 3.0, 3.0, 1.0]
