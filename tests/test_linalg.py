"""Matrices and order: values and derivatives by hand, errors that name the matrix, extreme values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, AxisError, DTypeError, ShapeError

from . import numeric

A = np.array([[2.0, 1.0], [1.0, 3.0]])  # det 5


def gradient(fn: Any, x: Any) -> Any:
    return tg.func.grad(fn)(np.asarray(x, float)).data


# -- solve, inv, det ---------------------------------------------------------------------------------------------------


def test_solve_by_hand() -> None:
    """x = A⁻¹b = (1, 1); by b the gradient of Σx is A⁻ᵀ1 = (2/5, 1/5), by A it is -(A⁻ᵀ1) xᵀ."""
    a, b = tg.Tensor(A, requires_grad=True), tg.Tensor([3.0, 4.0], requires_grad=True)
    x = tg.linalg.solve(a, b)
    x.sum().backward()
    np.testing.assert_allclose(x.data, [1.0, 1.0], rtol=1e-15)
    np.testing.assert_allclose(b.grad.data, [0.4, 0.2], rtol=1e-6)
    np.testing.assert_allclose(a.grad.data, [[-0.4, -0.4], [-0.2, -0.2]], rtol=1e-7)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "shape_x"),
    [
        ((3, 3), (3,), (3,)),
        ((5, 3, 3), (3,), (5, 3)),
        ((3, 3), (3, 2), (3, 2)),
        ((5, 3, 3), (3, 2), (5, 3, 2)),
        ((5, 3, 3), (4, 1, 3, 2), (4, 5, 3, 2)),
        ((5, 3, 3), (5, 3), None),
    ],
)
def test_shapes_of_solve(shape_a: Any, shape_b: Any, shape_x: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=shape_a) + 4 * np.eye(3), rng.normal(size=shape_b)
    if shape_x is None:  # a 2-d b is a matrix, never a batch of vectors
        with pytest.raises(ShapeError, match=r"solve: a float64\(5, 3, 3\) and b float64\(5, 3\) do not fit"):
            tg.linalg.solve(a, b)
        return
    given, wanted = tg.linalg.solve(tg.Tensor(a), b), np.linalg.solve(a, b)
    assert given.shape == wanted.shape == shape_x
    np.testing.assert_allclose(given.data, wanted, rtol=1e-13)
    np.testing.assert_allclose(np.linalg.solve(tg.Tensor(a), b).data, wanted, rtol=1e-13)


def test_inverse_by_hand() -> None:
    """d tr(A⁻¹) = -tr(A⁻² dA)."""
    np.testing.assert_allclose(tg.linalg.inv(A), [[0.6, -0.2], [-0.2, 0.4]], rtol=1e-14)
    found = gradient(lambda a: tg.trace(tg.linalg.inv(a)), A)
    np.testing.assert_allclose(found, [[-0.4, 0.2], [0.2, -0.2]], rtol=1e-14)


def test_determinant_by_hand() -> None:
    np.testing.assert_allclose(tg.linalg.det(A), 5.0, rtol=1e-15)
    np.testing.assert_allclose(gradient(tg.linalg.det, A), [[3.0, -1.0], [-1.0, 2.0]], rtol=1e-14)
    sign, log = tg.linalg.slogdet(-np.eye(3))
    assert (sign, log) == (-1.0, 0.0)
    np.testing.assert_allclose(gradient(lambda a: tg.linalg.slogdet(a)[1], A), np.linalg.inv(A).T, rtol=1e-14)
    assert tg.linalg.slogdet(np.eye(400) * 1e-10)[1] == pytest.approx(400 * math.log(1e-10))
    assert tg.linalg.slogdet(np.zeros((2, 2))) == (0.0, -math.inf)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_gradient_of_a_zero_determinant(rank: int) -> None:
    """The cofactors: differences agree, as they are polynomials."""
    rng = np.random.default_rng(rank)
    a = rng.normal(size=(3, rank)) @ rng.normal(size=(rank, 3))
    wanted, _ = numeric.gradient(lambda m: np.asarray(np.linalg.det(m)), (a,), 0, np.ones(()))
    np.testing.assert_allclose(gradient(tg.linalg.det, a), wanted, atol=1e-12)


def test_second_derivatives_of_det_need_an_inverse() -> None:
    with pytest.raises(ArgumentError, match="inv: the float64.2, 2. is singular"):
        tg.func.grad(lambda a: tg.func.grad(tg.linalg.det)(a).sum())(np.ones((2, 2)))


@pytest.mark.parametrize("name", ["solve", "inv"])
def test_singular_matrices_are_named(name: str) -> None:
    call = getattr(tg.linalg, name)
    more = (np.ones(2),) if name == "solve" else ()
    with pytest.raises(ArgumentError, match=rf"^{name}: the float64\(2, 2\) is singular"):
        call(np.ones((2, 2)), *more)
    batch = np.broadcast_to(np.eye(2), (2, 3, 2, 2)).copy()
    batch[0, 2] = batch[1, 0] = 1.0
    with pytest.raises(
        ArgumentError, match=rf"^{name}: matrix \(0, 2\), \(1, 0\) of float64\(2, 3, 2, 2\) is singular"
    ):
        call(tg.Tensor(batch), *more)
    with pytest.raises(ArgumentError, match=r"\(4,\), \.\.\. of float64\(9, 1, 1\)"):
        call(np.zeros((9, 1, 1)), *((np.ones(1),) if more else ()))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_matrices_keep_their_dtype(dtype: str) -> None:
    a = tg.Tensor(A.astype(dtype), requires_grad=True)
    for fn in (tg.linalg.inv, tg.linalg.det, lambda a: tg.linalg.slogdet(a)[1], lambda a: tg.linalg.solve(a, a[0])):
        y = fn(a)
        (g,) = tg.autograd.grad(y.sum(), a)
        assert y.dtype == g.dtype == dtype
    assert tg.linalg.inv(np.array([[2]])).dtype == np.float64


@pytest.mark.parametrize("name", ["solve", "inv", "det", "slogdet"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_only_square_matrices(name: str, shape: Any) -> None:
    with pytest.raises(ShapeError, match=f"{name}: float64.* is no square matrix"):
        getattr(tg.linalg, name)(np.ones(shape), *([np.ones(3)] if name == "solve" else []))


@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_solve_refuses_what_does_not_fit(shape: Any) -> None:
    with pytest.raises(ShapeError, match="b is"):
        tg.linalg.solve(np.eye(3), np.ones(shape))


# -- norms -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ord", [2, 1, 3, 0.5, -1, 0, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 2), -1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_vector_norms_are_numpys(ord: Any, axis: Any, keepdims: bool) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    wanted = np.linalg.vector_norm(x, axis=axis, keepdims=keepdims, ord=ord)
    given = tg.linalg.vector_norm(x, axis, keepdims, ord)
    assert np.shape(given) == np.shape(wanted)
    np.testing.assert_allclose(given, wanted, rtol=1e-14)


@pytest.mark.parametrize(
    ("shape", "ord", "axis"),
    [
        ((4,), None, None), ((2, 3, 4), None, None), ((2, 3), 1, None), ((2, 3), np.inf, None), ((2, 3), "fro", None),
        ((4,), 3, None), ((2, 3, 4), 3, 1), ((2, 3, 4), -1, (2, 0)), ((2, 3, 4), -np.inf, (0, 1)),
        ((2, 3), None, (0, 1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("keepdims", [False, True])
def test_norms_are_numpys(shape: Any, ord: Any, axis: Any, keepdims: bool) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    wanted = np.linalg.norm(x, ord, axis, keepdims)
    given = np.linalg.norm(tg.Tensor(x), ord, axis, keepdims)
    assert given.shape == np.shape(wanted)
    np.testing.assert_allclose(given.data, wanted, rtol=1e-14)


def test_norms_by_hand() -> None:
    np.testing.assert_allclose(gradient(tg.linalg.norm, [3.0, 4.0]), [0.6, 0.8], rtol=1e-15)
    np.testing.assert_allclose(gradient(lambda x: tg.linalg.norm(x, 1), [3.0, -4.0, 0.0]), [1.0, -1.0, 0.0])
    np.testing.assert_allclose(gradient(lambda x: tg.linalg.norm(x, np.inf), [3.0, -4.0]), [0.0, -1.0])
    np.testing.assert_allclose(
        gradient(lambda x: tg.linalg.matrix_norm(x, ord=1), [[1.0, -2], [3, 4]]), [[0, -1], [0, 1]]
    )
    hessian = tg.func.grad(lambda x: (tg.func.grad(tg.linalg.norm)(x) * np.array([1.0, 0.0])).sum())(
        np.array([3.0, 4.0])
    )
    np.testing.assert_allclose(hessian.data, [16 / 125, -12 / 125], rtol=1e-13)


@pytest.mark.parametrize("ord", [2, 3, 1.5, 1, np.inf])
@pytest.mark.parametrize("order", [1, 2])
def test_at_zero_the_gradient_is_zero(ord: float, order: int) -> None:
    fn = lambda x: tg.linalg.vector_norm(x, ord=ord)  # noqa: E731
    for _ in range(order - 1):
        fn = lambda x, inner=fn: tg.func.grad(inner)(x).sum()  # noqa: E731
    assert gradient(fn, np.zeros(3)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e160, 1e300])
@pytest.mark.parametrize("ord", [2, 3])
def test_norms_neither_overflow_nor_underflow(scale: float, ord: int) -> None:
    x = scale * np.array([3.0, 4.0])
    assert tg.linalg.vector_norm(x, ord=ord) == pytest.approx(scale * (3**ord + 4**ord) ** (1 / ord), rel=1e-13)
    np.testing.assert_allclose(
        gradient(lambda x: tg.linalg.vector_norm(x, ord=ord), x),
        gradient(lambda x: tg.linalg.vector_norm(x, ord=ord), x / scale),
        rtol=1e-12,
    )


def test_norms_of_infinities_and_nan() -> None:
    assert tg.linalg.norm(np.array([math.inf, 1.0])) == math.inf
    assert math.isnan(tg.linalg.norm(np.array([math.nan, 1.0])))
    assert tg.linalg.norm(np.array([3, 4])) == 5.0
    assert tg.linalg.norm([3.0, 4.0]) == 5.0
    assert tg.linalg.vector_norm(np.ones(3, np.float32), ord=np.float64(3)).dtype == np.float32
    with pytest.raises(DTypeError, match="drop the imaginary part"):
        tg.linalg.norm(np.array([1j, 1.0]))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tg.linalg.vector_norm(np.ones(2), ord="fro"), ArgumentError, "ord 'fro' is no number"),
        (lambda: tg.linalg.vector_norm(np.ones(2), ord=math.nan), ArgumentError, "ord nan"),
        (lambda: tg.linalg.vector_norm(np.ones(2), axis=1), AxisError, "vector_norm: axis 1"),
        (lambda: tg.linalg.matrix_norm(np.ones(2)), AxisError, "fewer than two axes"),
        (lambda: tg.linalg.matrix_norm(np.ones((2, 2)), ord=2), ArgumentError, "ord 2; there are"),
        (lambda: tg.linalg.norm(np.ones((2, 2)), "nuc"), ArgumentError, "ord 'nuc'; there are"),
        (lambda: tg.linalg.norm(np.ones((2, 2, 2)), 1), AxisError, "of one axis or of two"),
        (lambda: tg.diff(np.ones(2), -1), ArgumentError, "n -1 must not be negative"),
        (lambda: tg.sort(np.ones(())), ArgumentError, "sort: float64.. is a single number"),
        (lambda: tg.argsort(np.ones(3), 1), AxisError, "argsort: axis 1"),
    ],
)
def test_errors(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


# -- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("descending", [False, True])
def test_sort_and_argsort(axis: int, descending: bool) -> None:
    x = np.random.default_rng(0).integers(0, 4, (6, 5)).astype(float)
    order = np.argsort(-x if descending else x, axis, stable=True)
    assert np.array_equal(tg.argsort(x, axis, descending), order)
    assert np.array_equal(tg.sort(tg.Tensor(x), axis, descending).data, np.take_along_axis(x, order, axis))
    assert np.array_equal(np.sort(tg.Tensor(x), axis).data, np.sort(x, axis))
    weights = np.random.default_rng(1).normal(size=x.shape)
    found = gradient(lambda x: (tg.sort(x, axis, descending) * weights).sum(), x)
    assert np.array_equal(np.take_along_axis(found, order, axis), weights)


def test_sort_twice_differentiated() -> None:
    """Σ i·x₍ᵢ₎² has the second derivative 2i where x₍ᵢ₎ stood."""
    found = tg.func.grad(lambda x: tg.func.grad(lambda x: (tg.sort(x) ** 2 * np.arange(3.0)).sum())(x).sum())
    assert found(np.array([5.0, 1.0, 3.0])).tolist() == [4.0, 0.0, 2.0]


def test_diff() -> None:
    x = np.array([[1.0, 4.0, 9.0, 16.0], [0.0, 1.0, 0.0, 2.0]])
    for n in range(5):
        for axis in (0, 1):
            assert np.array_equal(np.diff(tg.Tensor(x), n, axis).data, np.diff(x, n, axis))
    assert np.array_equal(
        tg.diff(x, prepend=x[:, :1], append=x[:, 1:2]), np.diff(x, prepend=x[:, :1], append=x[:, 1:2])
    )
    assert gradient(lambda x: (tg.diff(x) * np.array([1.0, 10.0])).sum(), [1.0, 4.0, 9.0]).tolist() == [
        -1.0,
        -9.0,
        10.0,
    ]


@pytest.mark.parametrize("ord", [-0.5, -1, -2])
def test_negative_norm_beside_a_zero(ord: float) -> None:
    """One 0 makes the norm 0 whatever the other is: it has slope 0."""
    np.testing.assert_array_equal(gradient(lambda x: tg.linalg.vector_norm(x, ord=ord), [0.0, 0.5]), [0, 0])
