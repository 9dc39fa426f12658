"""Gradients behind a selection, at an infinite slope, and at every other point where engines give NaN."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_nn as tg
from tinygrad_nn.registry import OPS

from . import strategies

INF, NAN = np.inf, np.nan
F = tg.nn.functional
Fn = Callable[..., tg.Tensor]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The forward pass may warn of roots and logarithms where they have no value, as NumPy does."""
    with np.errstate(all="ignore"):
        yield


def gradients(fn: Fn, points: tuple[Any, ...], dtype: str = "float64", **how: Any) -> list[tg.Tensor]:
    xs = [tg.tensor(p, dtype=dtype, requires_grad=True) for p in points]
    return list(tg.autograd.grad(fn(*xs).sum(), xs, **how))


def pushed(fn: Fn, points: tuple[Any, ...], dtype: str) -> list[Any]:
    """The derivative of the sum by every element, each from one forward walk."""
    xs = [np.array(p, dtype) for p in points]
    found = []
    for k, x in enumerate(xs):
        slopes = np.zeros_like(x)
        for place in np.ndindex(x.shape):
            tangents = [np.zeros_like(other) for other in xs]
            tangents[k][place] = 1
            slopes[place] = tg.func.jvp(lambda *a: fn(*a).sum(), tuple(xs), tuple(tangents))[1].item()
        found.append(slopes)
    return found


class Row(NamedTuple):
    """A function, the point, its gradients there, and their derivatives again (of their sum)."""

    fn: Fn
    points: tuple[Any, ...]
    first: tuple[Any, ...]
    second: tuple[Any, ...] | None = None  # None: not asked for


TABLE = {
    "relu(0)": Row(tg.relu, (0.0,), (0.0,), (0.0,)),
    "abs(0)": Row(tg.abs, (0.0,), (0.0,), (0.0,)),
    "maximum(x, 0) at 0": Row(lambda x: tg.maximum(x, 0.0), (0.0,), (0.5,), (0.0,)),
    "clip(x, 0, 1) at 0 and 1": Row(lambda x: tg.clip(x, 0, 1), ([0.0, 1.0],), ([1.0, 1.0],), ([0.0, 0.0],)),
    "max([2, 2, 1])": Row(tg.max, ([2.0, 2.0, 1.0],), ([0.5, 0.5, 0.0],), ([0.0] * 3,)),
    "max over an axis": Row(lambda x: tg.max(x, axis=1), ([[2.0, 2.0, 1.0]],), ([[0.5, 0.5, 0.0]],), ([[0.0] * 3],)),
    "where(x > 0, sqrt(x), x) at -1": Row(
        lambda x: tg.where(x > 0, tg.sqrt(x), x), ([-1.0, 4.0],), ([1.0, 0.25],), ([0.0, -1 / 32],)
    ),
    "where(x > 0, log(x), 0) at 0": Row(
        lambda x: tg.where(x > 0, tg.log(x), 0.0), ([0.0, 2.0],), ([0.0, 0.5],), ([0.0, -0.25],)
    ),
    "norm([0, 0])": Row(tg.linalg.norm, ([0.0, 0.0],), ([0.0, 0.0],)),
    "sqrt(sum(x * x)) at [0, 0]": Row(lambda x: tg.sqrt((x * x).sum()), ([0.0, 0.0],), ([0.0, 0.0],), ([0.0, 0.0],)),
    "sqrt(x @ x) at [0, 0]": Row(lambda x: tg.sqrt(x @ x), ([0.0, 0.0],), ([0.0, 0.0],), ([0.0, 0.0],)),
    "sqrt(x**2) at 0": Row(lambda x: tg.sqrt(x**2), ([0.0, -3.0],), ([0.0, -1.0],), ([0.0, 0.0],)),
    "x**y at (0, 0)": Row(lambda x, y: x**y, (0.0, 0.0), (0.0, 0.0)),
    "x**0.0 at 0": Row(lambda x: x**0.0, (0.0,), (0.0,), (0.0,)),
    "x**2.0 at 0": Row(lambda x: x**2.0, (0.0,), (0.0,), (2.0,)),
    "prod([0, 2, 3])": Row(tg.prod, ([0.0, 2.0, 3.0],), ([6.0, 0.0, 0.0],), ([5.0, 3.0, 2.0],)),
    "prod([0, 0, 3])": Row(tg.prod, ([0.0, 0.0, 3.0],), ([0.0, 0.0, 0.0],), ([3.0, 3.0, 0.0],)),
    "cumprod([1, 0, 3])": Row(tg.cumprod, ([1.0, 0.0, 3.0],), ([1.0, 4.0, 0.0],), ([4.0, 5.0, 1.0],)),
    "std([1, 1, 1])": Row(tg.std, ([1.0, 1.0, 1.0],), ([0.0, 0.0, 0.0],), ([0.0, 0.0, 0.0],)),
    "logsumexp([-inf, -inf])": Row(tg.logsumexp, ([-INF, -INF],), ([0.0, 0.0],), ([0.0, 0.0],)),
    "logsumexp([-inf, 1])": Row(tg.logsumexp, ([-INF, 1.0],), ([0.0, 1.0],), ([0.0, 0.0],)),
    "sigmoid(-1000)": Row(tg.sigmoid, (-1000.0,), (0.0,), (0.0,)),
    "1 / (1 + exp(-x)) at -1000": Row(lambda x: 1 / (1 + tg.exp(-x)), (-1000.0,), (NAN,)),  # see the page
    "arctan2(0, 0)": Row(tg.arctan2, (0.0, 0.0), (0.0, 0.0)),
    "sort with a tie": Row(
        lambda x: (tg.sort(x) * np.array([1.0, 2.0, 3.0], x.dtype)).sum(), ([2.0, 2.0, 1.0],), ([2.0, 3.0, 1.0],)
    ),
    "x[[0, 0, 1]]": Row(lambda x: x[[0, 0, 1]], ([1.0, 2.0],), ([2.0, 1.0],)),
}

MORE = {
    "logaddexp(-inf, -inf)": Row(
        tg.logaddexp, ([-INF, 0.0, -INF], [-INF, 0.0, 1.0]), ([0.0, 0.5, 0.0], [0.0, 0.5, 1.0])
    ),
    "a mask by indexing": Row(
        lambda x: tg.sqrt(x)[x > 0], ([-1.0, 0.0, 4.0],), ([0.0, 0.0, 0.25],), ([0.0, 0.0, -1 / 32],)
    ),
    "indexed before": Row(lambda x: tg.log(x[x > 0]), ([-1.0, 0.0, 4.0],), ([0.0, 0.0, 0.25],), ([0.0, 0.0, -1 / 16],)),
    "a slice": Row(lambda x: tg.sqrt(x)[1:], ([0.0, 4.0],), ([0.0, 0.25],), ([0.0, -1 / 32],)),
    "overwritten": Row(lambda x: tg.index_update(tg.log(x), 0, 7.0), ([0.0, 4.0],), ([0.0, 0.25],), ([0.0, -1 / 16],)),
    "tril": Row(lambda x: tg.tril(tg.log(x)), ([[1.0, 0.0], [2.0, 4.0]],), ([[1.0, 0.0], [0.5, 0.25]],)),
    "maximum": Row(lambda x: tg.maximum(tg.log(x), -5.0), ([0.0, 2.0],), ([0.0, 0.5],), ([0.0, -0.25],)),
    "minimum": Row(lambda x: tg.minimum(-tg.log(x), 5.0), ([0.0, 2.0],), ([0.0, -0.5],), ([0.0, 0.25],)),
    "clip": Row(lambda x: tg.clip(tg.log(x), -5.0, 5.0), ([0.0, 2.0],), ([0.0, 0.5],), ([0.0, -0.25],)),
    "relu of a root": Row(lambda x: tg.relu(tg.sqrt(x) - 1), ([0.0, 4.0],), ([0.0, 0.25],), ([0.0, -1 / 32],)),
    "root of a relu": Row(lambda x: tg.sqrt(tg.relu(x)), ([-1.0, 4.0],), ([0.0, 0.25],), ([0.0, -1 / 32],)),
    "root of a clip": Row(lambda x: tg.sqrt(tg.clip(x, 0.0)), ([-1.0, 4.0],), ([0.0, 0.25],), ([0.0, -1 / 32],)),
    "root of a maximum": Row(lambda x: tg.sqrt(tg.maximum(x, 0.0)), ([-1.0, 4.0],), ([0.0, 0.25],), ([0.0, -1 / 32],)),
    "max of columns": Row(
        lambda x: tg.max(tg.stack([tg.log(x), tg.full_like(x, -5.0)]), axis=0), ([0.0, 2.0],), ([0.0, 0.5],)
    ),
    "max pooling": Row(lambda x: F.max_pool2d(tg.log(x).reshape(1, 1, 1, 2), (1, 2)), ([0.0, 2.0],), ([0.0, 0.5],)),
    "nested where": Row(
        lambda x: tg.where(x > 0, tg.where(x < 1, tg.log(x), tg.sqrt(x)), x * x),
        ([-1.0, 0.0, 0.5, 4.0],),
        ([-2.0, 0.0, 2.0, 0.25],),
        ([2.0, 2.0, -4.0, -1 / 32],),
    ),
    "a quotient": Row(lambda x: tg.where(x != 0, tg.sin(x) / x, 1.0), ([0.0, np.pi],), ([0.0, -1 / np.pi],)),
    "arcsin": Row(lambda x: tg.where(abs(x) < 1, tg.arcsin(x), 0.0), ([1.0, 2.0, 0.0],), ([0.0, 0.0, 1.0],)),
    "arccosh": Row(lambda x: tg.where(x > 1, tg.arccosh(x), x), ([1.0, 0.0],), ([1.0, 1.0],), ([0.0, 0.0],)),
    "cbrt": Row(lambda x: tg.where(x > 0, tg.cbrt(x), 0.0), ([0.0, 8.0],), ([0.0, 1 / 12],)),
    "x**0.5": Row(lambda x: tg.where(x > 0, x**0.5, 0.0), ([0.0, -1.0, 4.0],), ([0.0, 0.0, 0.25],)),
    "x**y": Row(lambda x, y: tg.where(x > 0, x**y, 0.0), ([-1.0, 1.0], [0.5, 3.0]), ([0.0, 3.0], [0.0, 0.0])),
    "an overflow": Row(lambda x: tg.where(x < 100, tg.exp(x), x), ([1e4, 0.0],), ([1.0, 1.0],), ([0.0, 1.0],)),
    "a row of softmax": Row(
        lambda x: tg.where(np.array([[True], [False]]), tg.softmax(x, -1) ** 2, 0.0),
        ([[0.0, 0.0], [-INF, -INF]],),
        ([[0.0, 0.0], [0.0, 0.0]],),
    ),
    "a row of log_softmax": Row(
        lambda x: tg.where(np.array([[True], [False]]), tg.log_softmax(x, -1) * np.array([0.0, 1.0], x.dtype), 0.0),
        ([[0.0, 0.0], [-INF, -INF]],),
        ([[-0.5, 0.5], [0.0, 0.0]],),
    ),
    "logarithms of unused classes": Row(
        lambda p: F.nll_loss(tg.log(p), np.array([1])), ([[0.0, 0.5]],), ([[0.0, -2.0]],), ([[0.0, 4.0]],)
    ),
    "missing rows, linear": Row(
        lambda x, w, b: tg.where(np.array([[True], [False]]), tg.linear(x, w, b), 0.0),
        ([[1.0, 2.0], [NAN, INF]], [[3.0, 4.0]], [5.0]),
        ([[3.0, 4.0], [0.0, 0.0]], [[1.0, 2.0]], [1.0]),
        ([[1.0, 1.0], [0.0, 0.0]], [[1.0, 1.0]], None),
    ),
    "missing rows, matmul": Row(
        lambda x, w: tg.where(np.array([[True], [False]]), x @ w, 0.0),
        ([[1.0, 2.0], [NAN, INF]], [[3.0], [4.0]]),
        ([[3.0, 4.0], [0.0, 0.0]], [[1.0], [2.0]]),
    ),
    "missing rows, einsum": Row(
        lambda x, w, v: tg.where(np.array([True, False]), tg.einsum("ni,ij,j->n", x, w, v), 0.0),
        ([[1.0, 2.0], [NAN, INF]], [[3.0], [4.0]], [2.0]),
        ([[6.0, 8.0], [0.0, 0.0]], [[2.0], [4.0]], [11.0]),
    ),
    "missing images": Row(
        lambda x, w, b: tg.where(np.array([True, False]).reshape(2, 1, 1, 1), F.conv2d(x, w, b), 0.0),
        ([[[[1.0, 2.0]]], [[[NAN, 1.0]]]], [[[[3.0]]]], [5.0]),
        ([[[[3.0, 3.0]]], [[[0.0, 0.0]]]], [[[[3.0]]]], [2.0]),
    ),
    "a missing row that was multiplied": Row(
        lambda x, w: tg.where(np.array([True, False]), tg.log(x) * w, 0.0),
        ([2.0, 0.0], [3.0, 3.0]),
        ([1.5, 0.0], [np.log(2.0), 0.0]),
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [*TABLE, *MORE])
def test_gradient_at_a_special_point(name: str, dtype: str) -> None:
    row = {**TABLE, **MORE}[name]
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    found = gradients(row.fn, row.points, dtype)
    for got, wanted in zip(found, row.first, strict=True):
        np.testing.assert_allclose(got.data, wanted, rtol=tolerance, atol=tolerance)
        assert got.dtype == dtype
    again = gradients(row.fn, row.points, dtype, create_graph=True)
    for got, recorded in zip(found, again, strict=True):
        np.testing.assert_array_equal(got.data, recorded.data)


@pytest.mark.parametrize("name", [*TABLE, *MORE])
def test_forward_mode_at_a_special_point(name: str) -> None:
    row = {**TABLE, **MORE}[name]
    for got, wanted in zip(pushed(row.fn, row.points, "float64"), row.first, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_zeros_of_a_given_cotangent_ask_for_nothing() -> None:
    x = tg.tensor([0.0, 4.0], dtype="float64", requires_grad=True)
    tg.sqrt(x).backward(np.array([0.0, 1.0]))
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [0.0, 0.25])


@pytest.mark.parametrize("jacobian", [tg.func.jacrev, tg.func.jacfwd])
def test_jacobian_of_a_root(jacobian: Any) -> None:
    found = jacobian(tg.sqrt)(tg.tensor([0.0, 4.0], dtype="float64"))
    np.testing.assert_array_equal(found.data, [[INF, 0.0], [0.0, 0.25]])


def test_inside_vmap() -> None:
    x = tg.tensor([-1.0, 0.0, 4.0], dtype="float64")

    def fn(v: Any) -> Any:
        return tg.where(v > 0, tg.sqrt(v), v * v)

    np.testing.assert_allclose(tg.func.vmap(tg.func.grad(fn))(x).data, [-2.0, 0.0, 0.25])
    np.testing.assert_allclose(tg.func.vmap(tg.func.grad(tg.func.grad(fn)))(x).data, [2.0, 2.0, -1 / 32])
    np.testing.assert_allclose(tg.func.hessian(lambda v: fn(v).sum())(x).data, np.diag([2.0, 2.0, -1 / 32]))
    clipped = tg.func.jacfwd(lambda v: tg.maximum(tg.log(v), -5.0))(tg.tensor([0.0, 2.0], dtype="float64"))
    np.testing.assert_allclose(clipped.data, [[0.0, 0.0], [0.0, 0.5]])


def test_a_zero_by_accident_keeps_its_own_derivative() -> None:
    w = tg.tensor(0.0, dtype="float64", requires_grad=True)
    x = tg.tensor([0.0, 2.0], dtype="float64", requires_grad=True)
    (dx,) = tg.autograd.grad(tg.where(x > 0, w * tg.log(x), 0.0).sum(), x, create_graph=True)
    np.testing.assert_array_equal(dx.data, [0.0, 0.0])
    (mixed,) = tg.autograd.grad(dx[1], w)
    assert mixed.item() == 0.5


def test_what_is_used_stays_infinite_or_nan() -> None:
    (g,) = gradients(lambda x: tg.where(x >= 0, tg.sqrt(x), 0.0), ([0.0, -1.0],))
    np.testing.assert_array_equal(g.data, [INF, 0.0])
    (g,) = gradients(lambda x: tg.where(x < 0, tg.sqrt(x), x), ([-1.0, 1.0],))
    np.testing.assert_array_equal(g.data, [NAN, 1.0])
    (g,) = gradients(tg.sqrt, ([-1.0, 0.0, 4.0],))
    np.testing.assert_array_equal(g.data, [NAN, INF, 0.25])
    valid = np.array([[True], [False]])
    x, w = [[1.0, NAN], [NAN, 1.0]], [[3.0], [4.0]]
    (g,) = gradients(lambda w: tg.where(valid, tg.tensor(x, dtype="float64") @ w, 0.0), (w,))
    np.testing.assert_array_equal(g.data, [[1.0], [NAN]])


@pytest.mark.parametrize("fn", [lambda x: tg.exp(tg.log(x)), lambda x: tg.sqrt(x) ** 2, lambda x: 1 / (1 + 1 / x)])
def test_a_zero_by_accident_against_an_infinite_slope_is_no_number(fn: Fn) -> None:
    """The derivatives are 1 by a limit, which no rule can see: NaN says so, in both modes, and 0 would be wrong."""
    assert np.isnan(gradients(fn, (0.0,))[0].data)
    assert np.isnan(pushed(fn, (0.0,), "float64")[0])


def test_no_warning_from_what_is_repaired() -> None:
    x = tg.tensor([0.0, 1e4], dtype="float64", requires_grad=True)
    y = tg.where(np.array([False, False]), tg.sqrt(x) + tg.exp(x), x)
    with warnings.catch_warnings(), np.errstate(invalid="warn", divide="ignore"):
        warnings.simplefilter("error")
        y.sum().backward()
        assert np.geterr()["invalid"] == "warn"  # and afterwards NumPy warns as before
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [1.0, 1.0])


def test_hooks_and_retained_gradients_are_repaired() -> None:
    x = tg.tensor([0.0, 4.0], dtype="float64", requires_grad=True)
    middle = x * 1.0
    middle.retain_grad()
    seen: list[Any] = []
    middle.register_hook(lambda g: seen.append(g.data.copy()))
    tg.where(x > 0, tg.sqrt(middle), 0.0).sum().backward()
    assert middle.grad is not None
    np.testing.assert_array_equal(middle.grad.data, [0.0, 0.25])
    np.testing.assert_array_equal(seen[0], [0.0, 0.25])


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 2), (3,)])
def test_samples_without_a_number_are_masked_after_a_loss_of_classes(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    labels = np.zeros(shape[:1] + shape[2:] if len(shape) > 1 else (), np.int64)
    valid = labels == 0
    if valid.shape:
        valid[0] = False
    else:
        valid = np.array(False)
    lines = valid if len(shape) == 1 else np.expand_dims(valid, 1)
    broken = np.where(lines, x, NAN)

    def loss(x: Any) -> Any:
        return tg.where(valid, F.cross_entropy(3.0 * x, labels, reduction="none"), 0.0).sum()

    wanted = tg.func.grad(loss)(x).data
    assert np.any(wanted) == valid.any()
    np.testing.assert_array_equal(tg.func.grad(loss)(broken).data, wanted)
    point = tg.tensor(broken, requires_grad=True)
    (recorded,) = tg.autograd.grad(loss(point), point, create_graph=True)
    np.testing.assert_allclose(recorded.data, wanted, rtol=1e-12, atol=1e-15)
    (second,) = tg.autograd.grad((recorded**2).sum(), point)
    assert np.isfinite(second.data).all()


def test_lines_without_a_number_are_masked_after_running_products() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    valid = np.array([True, False, True])

    def loss(x: Any) -> Any:
        return tg.where(valid[:, None], tg.cumprod(2.0 * x, axis=1), 0.0).sum()

    broken = np.where(valid[:, None], x, NAN)
    np.testing.assert_array_equal(tg.func.grad(loss)(broken).data, tg.func.grad(loss)(x).data)


SINGULAR: dict[str, Callable[[Any], Any]] = {
    "sqrt": tg.sqrt,
    "log": tg.log,
    "log1p": lambda x: tg.log1p(x - 1),
    "reciprocal": lambda x: 1 / x,
    "power": lambda x: x**0.3,
    "arcsin": lambda x: tg.arcsin(x / 2),
    "arctanh": lambda x: tg.arctanh(x / 2),
    "cbrt": tg.cbrt,
    "product": lambda x: tg.log(x) * tg.sqrt(x),
    "chain": lambda x: tg.exp(tg.log(x) * 3) / x,
    "square": lambda x: x * x,
}
POINTS = st.sampled_from([-INF, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 1e200, INF, NAN])


@pytest.mark.parametrize("select", ["where", "index", "overwrite"])
@given(data=st.data())
def test_selected_elements_alone_decide(select: str, data: st.DataObject) -> None:
    """The gradient through a selection is that of the selected elements computed alone, and 0 elsewhere.

    Where alone they have none (NaN: 0 by accident times an infinite slope), nothing is promised.
    """
    names = data.draw(st.lists(st.sampled_from(sorted(SINGULAR)), min_size=1, max_size=3))
    values = np.array(data.draw(st.lists(POINTS, min_size=1, max_size=5)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=values.size, max_size=values.size)))

    def fn(x: Any) -> Any:
        return sum((SINGULAR[name](x) for name in names), start=x)

    def through(x: Any) -> Any:
        y = fn(x)
        if select == "where":
            return tg.where(mask, y, 0.0).sum()
        return (y[mask] if select == "index" else tg.index_update(y, ~mask, 7.0)).sum()

    with np.errstate(all="ignore"):
        wanted = np.zeros(values.size)
        for i in np.flatnonzero(mask):
            wanted[i] = tg.func.grad(fn)(tg.tensor(values[i])).item()
        x = tg.tensor(values, requires_grad=True)
        through(x).backward()
        assert x.grad is not None
        np.testing.assert_array_equal(np.where(np.isnan(wanted), NAN, x.grad.data), wanted)
        (recorded,) = gradients(through, (values,), create_graph=True)
        np.testing.assert_array_equal(recorded.data, x.grad.data)


ELEMENTWISE = sorted(name for name, op in OPS.items() if op.kind == "elementwise")


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_elementwise_operation_behind_a_selection(name: str) -> None:
    """Whatever the elements left out are, their gradient is 0 and that of the others as if they were not there."""
    op = OPS[name]
    count = len(op.vjps)
    drawn = strategies.sample(op.domain, ((4,),) * count, np.random.default_rng(0))
    wild = np.array(list(itertools.product([NAN, INF, -INF, 0.0, -1.0, 1e300], repeat=count))).T
    chosen = np.arange(4 + wild.shape[1]) < 4
    alone = [tg.tensor(a, requires_grad=True) for a in drawn]
    op.call(*alone).sum().backward()
    full = [tg.tensor(np.concatenate([a, w]), requires_grad=True) for a, w in zip(drawn, wild, strict=True)]
    for create in (False, True):
        found = tg.autograd.grad(tg.where(chosen, op.call(*full), 0.0).sum(), full, create_graph=create)
        for got, one in zip(found, alone, strict=True):
            assert got is not None
            np.testing.assert_array_equal(got.data[chosen], one.grad.data)  # type: ignore[union-attr]
            np.testing.assert_array_equal(got.data[~chosen], 0.0)
    total = sum((g.sum() for g in found if g is not None), start=tg.tensor(0.0))
    if total.requires_grad:
        for got in tg.autograd.grad(total, full, allow_unused=True):
            assert got is None or not np.any(got.data[~chosen])  # NaN is true, too


# Where PyTorch gives a number, it is ours, but for ties of `max` over an axis, which it gives to one of the equals.
AS_IN_TORCH = [
    "relu(0)",
    "abs(0)",
    "maximum(x, 0) at 0",
    "clip(x, 0, 1) at 0 and 1",
    "max([2, 2, 1])",
    "norm([0, 0])",
    "x**y at (0, 0)",
    "prod([0, 2, 3])",
    "prod([0, 0, 3])",
    "cumprod([1, 0, 3])",
    "std([1, 1, 1])",
    "logsumexp([-inf, 1])",
    "sigmoid(-1000)",
    "arctan2(0, 0)",
    "sort with a tie",
    "x[[0, 0, 1]]",
]


@pytest.mark.parametrize("name", AS_IN_TORCH)
def test_as_in_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    twins: dict[str, Callable[..., Any]] = {
        "maximum(x, 0) at 0": lambda x: torch.maximum(x, torch.zeros_like(x)),
        "clip(x, 0, 1) at 0 and 1": lambda x: torch.clamp(x, 0, 1),
        "norm([0, 0])": torch.linalg.norm,
        "x**y at (0, 0)": torch.pow,
        "cumprod([1, 0, 3])": lambda x: torch.cumprod(x, 0),
        "std([1, 1, 1])": torch.std,
        "logsumexp([-inf, 1])": lambda x: torch.logsumexp(x, 0),
        "arctan2(0, 0)": torch.arctan2,
        "sort with a tie": lambda x: (torch.sort(x, stable=True)[0] * torch.tensor([1.0, 2.0, 3.0])).sum(),
        "x[[0, 0, 1]]": lambda x: x[[0, 0, 1]],
    }
    twin = twins.get(name) or getattr(torch, name.split("(")[0])
    xs = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in TABLE[name].points]
    twin(*xs).sum().backward()
    for x, ours in zip(xs, TABLE[name].first, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), ours, atol=1e-15)


def test_forward_and_reverse_mode_never_give_different_numbers() -> None:
    """Random chains at special points: the modes may differ in what is NaN, where a zero came by accident, only."""
    steps: list[Callable[[Any], Any]] = [
        *(tg.sqrt, tg.log, tg.exp, tg.relu, tg.abs, tg.tanh, tg.arcsin, tg.sigmoid, tg.cbrt, tg.square),
        *(lambda x: 1 / x, lambda x: x**0.5, lambda x: x**2, lambda x: x * x, lambda x: -x, lambda x: x - 1),
        *(lambda x: tg.maximum(x, -1.0), lambda x: tg.minimum(x, 1.0), lambda x: tg.clip(x, -1, 1)),
    ]
    rng = np.random.default_rng(0)
    both = 0
    for _ in range(1000):
        chain = [steps[i] for i in rng.integers(0, len(steps), rng.integers(1, 6))]
        cut = rng.integers(0, len(chain) + 1)

        def fn(x: Any, chain: Any = chain, cut: Any = cut) -> Any:
            y = x
            for i, step in enumerate(chain):
                y = step(y)
                if i == cut:
                    y = tg.where(x > 0.7, y, x)
            return y

        x = np.float64(rng.choice([-1000.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 4.0, 1000.0]))
        back = tg.func.grad(fn)(x).item()
        ahead = tg.func.jvp(fn, (x,), (np.float64(1),))[1].item()
        if not np.isnan(back) and not np.isnan(ahead):
            np.testing.assert_allclose(back, ahead, rtol=1e-9)
            both += 1
    assert both > 700


@pytest.mark.parametrize("name", [name for name, row in {**TABLE, **MORE}.items() if row.second is not None])
def test_second_derivative_at_a_special_point(name: str) -> None:
    row = {**TABLE, **MORE}[name]
    xs = [tg.tensor(p, dtype="float64", requires_grad=True) for p in row.points]
    first = tg.autograd.grad(row.fn(*xs).sum(), xs, create_graph=True)
    total = sum((g.sum() for g in first), start=tg.tensor(0.0))
    assert row.second is not None
    if not total.requires_grad:
        found: list[Any] = [None] * len(xs)
    else:
        found = list(tg.autograd.grad(total, xs, allow_unused=True))
    for got, wanted, x in zip(found, row.second, xs, strict=True):
        got = np.zeros(x.shape) if got is None else got.data
        np.testing.assert_allclose(got, 0.0 if wanted is None else wanted, rtol=1e-12, atol=1e-12)
