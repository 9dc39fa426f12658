"""Gradients through solvers, held against derivatives known in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, BatchError, ConvergenceError, DTypeError, GraphError, ShapeError
from tinygrad_nn.func import custom_root, fixed_point, grad, jvp

RNG = np.random.default_rng(0)


def forward(fn: Any) -> Any:
    return lambda x: jvp(fn, (x,), (np.ones_like(x),))[1]


def newton(a: Any, steps: int = 60) -> Any:
    """The root of `a`, as a user would write it in NumPy."""
    x = np.ones_like(a.data)
    for _ in range(steps):
        x = (x + a.data / x) / 2
    return x


square_root = custom_root(lambda x, a: x * x - a, newton)


@pytest.mark.parametrize("modes", ["", "r", "f", "rr", "rf", "fr", "ff", "rrr", "frf", "ffff"])
def test_square_root_to_any_order_in_every_mode(modes: str) -> None:
    fn, power, factor = square_root, 0.5, 1.0
    for mode in modes:
        fn = grad(fn) if mode == "r" else forward(fn)
        factor, power = factor * power, power - 1
    assert fn(tg.tensor(7.0, dtype="float64")).item() == pytest.approx(factor * 7.0**power, rel=1e-13)


def test_jacobians_hessians_and_batches() -> None:
    a = np.array([1.0, 4.0, 9.0])
    for jacobian in (tg.func.jacrev, tg.func.jacfwd):
        np.testing.assert_allclose(jacobian(square_root)(a).data, np.diag(0.5 / np.sqrt(a)), rtol=1e-13)
    found = tg.func.hessian(lambda a: square_root(a).sum())(a)
    np.testing.assert_allclose(found.data, np.diag(-0.25 * a**-1.5), rtol=1e-12, atol=1e-18)
    np.testing.assert_allclose(tg.func.vmap(square_root)(tg.Tensor(a)).data, np.sqrt(a), rtol=1e-15)
    np.testing.assert_allclose(tg.func.vmap(grad(square_root))(tg.Tensor(a)).data, 0.5 / np.sqrt(a), rtol=1e-13)


def test_backward_and_dtypes() -> None:
    a = tg.tensor([4.0, 9.0], requires_grad=True)
    x = square_root(a)
    x.sum().backward()
    assert x.dtype == a.grad.dtype == np.float32
    np.testing.assert_allclose(a.grad.data, [0.25, 1 / 6], rtol=1e-6)
    assert isinstance(square_root(np.array([4.0])), np.ndarray)
    with tg.no_grad():
        assert not square_root(a).requires_grad
    assert not square_root(a.detach()).requires_grad


@pytest.mark.parametrize("mode", ["r", "f"])
def test_fixed_point_of_cosine(mode: str) -> None:
    """x = cos(a x): x' = -x sin(ax) / (1 + a sin(ax)), and x'' by differentiating that once more."""
    a = np.float64(0.9)

    def solution(a: Any) -> Any:
        return fixed_point(lambda x, a: tg.cos(a * x), 0.5, a)

    x = solution(a).item()
    assert x == pytest.approx(np.cos(a * x), rel=1e-14)
    s, c = np.sin(a * x), np.cos(a * x)
    first = -x * s / (1 + a * s)
    inner = x + a * first
    second = -(first * s + x * c * inner) / (1 + a * s) + x * s * (s + a * c * inner) / (1 + a * s) ** 2
    way = grad if mode == "r" else forward
    assert way(solution)(a).item() == pytest.approx(first, rel=1e-12)
    assert way(way(solution))(a).item() == pytest.approx(second, rel=1e-11)


def test_a_linear_system_is_solve() -> None:
    a, b = RNG.normal(size=(4, 4)) + 4 * np.eye(4), RNG.normal(size=4)
    by_root = custom_root(lambda x, a, b: a @ x - b, lambda a, b: np.linalg.solve(a.data, b.data))

    def loss(solver: Any) -> Any:
        return lambda a, b: (solver(a, b) ** 3).sum()

    for way in (grad, tg.func.hessian):
        found, wanted = way(loss(by_root), (0, 1))(a, b), way(loss(tg.linalg.solve), (0, 1))(a, b)
        for f, w in zip(tg.tree.flatten(found)[0], tg.tree.flatten(wanted)[0], strict=True):
            np.testing.assert_allclose(f.data, w.data, rtol=1e-10, atol=1e-12)


def test_sensitivity_of_an_optimum() -> None:
    """argmin ½|Xw - y|² + ½λ|w|² is (XᵀX + λ)⁻¹ Xᵀy; by λ it moves at -(XᵀX + λ)⁻¹ w. Found by gradient descent."""
    data, y = RNG.normal(size=(20, 3)), RNG.normal(size=20)

    def loss(w: Any, penalty: Any) -> Any:
        return 0.5 * ((data @ w - y) ** 2).sum() + 0.5 * penalty * (w * w).sum()

    def descend(penalty: Any) -> Any:
        w = np.zeros(3)
        for _ in range(2000):
            w = w - 0.02 * grad(loss)(w, penalty).data
        return w

    best = custom_root(grad(loss), descend)
    penalty = np.float64(0.3)
    inverse = np.linalg.inv(data.T @ data + penalty * np.eye(3))
    w = inverse @ data.T @ y
    np.testing.assert_allclose(best(penalty), w, rtol=1e-12)
    np.testing.assert_allclose(forward(best)(penalty).data, -inverse @ w, rtol=1e-10)
    np.testing.assert_allclose(tg.func.jacrev(best)(penalty).data, -inverse @ w, rtol=1e-10)
    np.testing.assert_allclose(forward(forward(best))(penalty).data, 2 * inverse @ inverse @ w, rtol=1e-10)


def test_nested_params_and_unknowns() -> None:
    """x + y = s, x - y = d, whose solutions are (s ± d) / 2; with options for the solver, and a constant."""
    seen = []

    def solve(p: Any, factor: Any, start: float) -> Any:
        seen.append((start, p["s"].requires_grad))
        s, d = p["s"].data, p["d"][0].data
        return {"x": factor * (s + d) / 2, "y": factor * (s - d) / 2}

    def residual(v: Any, p: Any, factor: Any) -> Any:
        return {"x": v["x"] + v["y"] - factor * p["s"], "y": v["x"] - v["y"] - factor * p["d"][0]}

    root = custom_root(residual, solve)
    p = {"s": tg.tensor([3.0, 4.0], requires_grad=True), "d": [tg.tensor([1.0, 2.0], requires_grad=True)]}
    found = root(p, 2, start=0.5)
    assert list(found) == ["x", "y"]
    assert found["x"].tolist() == [4.0, 6.0]
    (found["x"] * tg.tensor([1.0, 10.0]) + 5 * found["y"]).sum().backward()
    np.testing.assert_allclose(p["s"].grad.data, [6.0, 15.0], rtol=1e-6)
    np.testing.assert_allclose(p["d"][0].grad.data, [-4.0, 5.0], rtol=1e-6)
    assert seen == [(0.5, False)]


def test_a_fixed_point_of_several_arrays() -> None:
    """u = v/2 + a, v = u/2: u = 4a/3, v = 2a/3."""

    def step(z: Any, a: Any) -> Any:
        return z[1] / 2 + a, z[0] / 2

    a = np.array([3.0, 6.0])
    u, v = fixed_point(step, (np.zeros(2), np.zeros(2)), a)
    np.testing.assert_allclose(u, [4.0, 8.0], rtol=1e-13)
    np.testing.assert_allclose(v, [2.0, 4.0], rtol=1e-13)
    found = tg.func.jacrev(lambda a: fixed_point(step, (np.zeros(2), np.zeros(2)), a))(a)
    np.testing.assert_allclose(found[0].data, np.eye(2) * 4 / 3, rtol=1e-13)
    np.testing.assert_allclose(found[1].data, np.eye(2) * 2 / 3, rtol=1e-13)


def test_no_memory_of_the_iterations() -> None:
    """The graph is one node, however many steps the solver took."""
    a = tg.tensor(0.5, requires_grad=True)
    x = fixed_point(lambda x, a: tg.cos(a * x), 0.5, a)
    assert len(tg.graph.reachable([x._node])) <= 3


def test_what_residual_takes_from_outside() -> None:
    w = tg.tensor(4.0, requires_grad=True)
    root = custom_root(lambda x: x * x - w, lambda: newton(w))
    with pytest.raises(GraphError, match="uses a tensor from outside that requires a gradient"):
        root()
    with tg.no_grad():
        assert root().item() == 2.0
    with pytest.raises(GraphError, match="from outside"):
        grad(lambda w: fixed_point(lambda x: (x + w / x) / 2, 1.0))(4.0)


def test_batches_of_what_is_taken_from_outside() -> None:
    def solution(a: Any) -> Any:
        return custom_root(lambda x, b: x * a - b, lambda b: b)(np.float64(1.0))

    with pytest.raises(BatchError, match="inside vmap, what residual takes from the batch must be one of the params"):
        tg.func.vmap(solution)(np.ones(3))


def test_a_residual_with_derivatives_in_it_in_a_batch() -> None:
    """The minimum of ½ a x² - b x is b/a."""
    best = custom_root(grad(lambda x, a, b: 0.5 * a * x * x - b * x), lambda a, b: b / a)
    a, b = np.array([1.0, 2.0, 4.0]), np.array([3.0, 4.0, 5.0])
    np.testing.assert_allclose(tg.func.vmap(best)(a, b).data, b / a, rtol=1e-14)
    found = tg.func.vmap(grad(best, (0, 1)))(a, b)
    np.testing.assert_allclose(found[0].data, -b / a**2, rtol=1e-14)
    np.testing.assert_allclose(found[1].data, 1 / a, rtol=1e-14)
    second = tg.func.vmap(tg.func.hessian(best), in_axes=(0, None))(a, np.float64(3.0))
    np.testing.assert_allclose(second.data, 6 / a**3, rtol=1e-13)


def test_an_x_that_is_no_root() -> None:
    early = custom_root(lambda x, a: x * x - a, lambda a: newton(a, steps=2))
    a = tg.tensor(9.0, requires_grad=True)
    with pytest.raises(ConvergenceError, match=r"Newton's method would move it by 0\.376"):
        early(a)
    assert early(a.detach()).item() == pytest.approx(3.4)  # only its derivatives would be wrong
    assert custom_root(lambda x, a: x * x - a, lambda a: newton(a, steps=2), tolerance=0.1)(a).requires_grad
    with pytest.raises(ConvergenceError, match="by nan"):
        custom_root(lambda x, a: x * x - a, lambda a: a * np.nan)(a)


def test_an_iteration_that_runs_away() -> None:
    with np.errstate(over="ignore"), pytest.raises(ConvergenceError, match="after 3 iterations x is not finite"):
        fixed_point(lambda x, a: 1e30 * x + a, np.float32(0.0), np.float32(1.0))


def test_a_singular_jacobian() -> None:
    a = tg.tensor([0.0, 1.0], requires_grad=True)
    with pytest.raises(ArgumentError, match="the Jacobian of residual by x is singular at the solution"):
        custom_root(lambda x, a: x * x - a, lambda a: tg.sqrt(a))(a)
    with pytest.raises(ArgumentError, match="singular"):
        custom_root(lambda x, a: 0 * x + a - a, lambda a: tg.sqrt(a))(a)
    with pytest.raises(ArgumentError, match="singular"):
        custom_root(lambda x, a: a - a, lambda a: tg.sqrt(a))(a)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda a: custom_root(lambda x, a: x[:1] - a[:1], newton)(a), ShapeError, r"float32\(1,\), where x has the"),
        (lambda a: custom_root(lambda x, a: (x, x), newton)(a), ShapeError, "in the form of x"),
        (lambda a: custom_root(lambda x, a: x - a, lambda a: np.array([1, 2]))(a), DTypeError, "x is made of floats"),
        (lambda a: custom_root(lambda x, a: x - a, lambda a: ())(a), DTypeError, "returned nothing"),
        (lambda a: fixed_point(lambda x, a: -x + a, 0.0, a[0]), ConvergenceError, "after 1000 iterations the last"),
        (lambda a: fixed_point(lambda x, a: 2 * x + a, 0.0, a[0], max_iterations=9), ConvergenceError, "after 9 iter"),
        (lambda a: fixed_point(lambda x, a: a * np.nan, 0.0, a[0]), ConvergenceError, "after 1 iterations x is not"),
        (lambda a: fixed_point(lambda x, a: x + a, 0.0, a), ShapeError, r"made float32\(2,\) of float32\(\)"),
        (lambda a: fixed_point(lambda x, a: (x, x), 0.0, a), ShapeError, "it must keep the form"),
    ],
)
def test_errors(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(tg.tensor([1.0, 2.0], requires_grad=True))
