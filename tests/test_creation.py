"""Creation functions: values and dtypes as NumPy's, floats in the default dtype, clear refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import creation
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (lambda: creation.zeros((2, 3)), np.zeros((2, 3), "f4")),
        (lambda: creation.zeros(()), np.zeros((), "f4")),
        (lambda: creation.zeros([2], "int8"), np.zeros(2, "int8")),
        (lambda: creation.ones(3), np.ones(3, "f4")),
        (lambda: creation.ones((1, 0), bool), np.ones((1, 0), bool)),
        (lambda: creation.full((2,), 0.5), np.array([0.5, 0.5], "f4")),
        (lambda: creation.full(2, 7), np.array([7, 7], "int64")),
        (lambda: creation.full(2, True), np.array([True, True])),
        (lambda: creation.full(2, np.float64(0.1)), np.array([0.1, 0.1])),
        (lambda: creation.full(2, tg.tensor(0.5), "f8"), np.array([0.5, 0.5])),
        (lambda: creation.full(2, 3, dtype="float16"), np.array([3, 3], "float16")),
        (lambda: creation.eye(2), np.array([[1, 0], [0, 1]], "f4")),
        (lambda: creation.eye(2, 3, k=1, dtype=int), np.array([[0, 1, 0], [0, 0, 1]])),
        (lambda: creation.arange(3), np.array([0, 1, 2])),
        (lambda: creation.arange(1, 7, 2), np.array([1, 3, 5])),
        (lambda: creation.arange(3, 0, -1), np.array([3, 2, 1])),
        (lambda: creation.arange(3, 0), np.zeros(0, "int64")),
        (lambda: creation.arange(0.0, 1.0, 0.25), np.array([0, 0.25, 0.5, 0.75], "f4")),
        (lambda: creation.arange(2.5), np.array([0, 1, 2], "f4")),
        (lambda: creation.arange(3, dtype="f8"), np.array([0.0, 1, 2])),
        (lambda: creation.arange(-5.0, 5.0, 0.1), np.arange(-5.0, 5.0, 0.1).astype("f4")),
        (lambda: creation.linspace(0, 1, 5), np.array([0, 0.25, 0.5, 0.75, 1], "f4")),
        (lambda: creation.linspace(0, 1, 4, endpoint=False, dtype="f8"), np.array([0, 0.25, 0.5, 0.75])),
        (lambda: creation.linspace(2, 3, 0), np.zeros(0, "f4")),
        (lambda: creation.zeros_like(tg.arange(2)), np.zeros(2, "int64")),
        (lambda: creation.ones_like(tg.ones((2, 1)), "f8"), np.ones((2, 1))),
        (lambda: creation.full_like(tg.ones(2), 3), np.array([3, 3], "f4")),
        (lambda: creation.zeros_like([1.0, 2.0]), np.zeros(2, "f4")),
        (lambda: creation.zeros_like(tg.tensor(1.0)), np.zeros((), "f4")),
    ],
)
def test_values_and_dtypes(made: Any, expected: np.ndarray[Any, Any]) -> None:
    t = made()
    assert isinstance(t, tg.Tensor) and not t.requires_grad
    assert t.dtype == expected.dtype and t.shape == expected.shape
    np.testing.assert_array_equal(t.data, expected)


def test_empty_has_the_shape_and_dtype() -> None:
    assert (creation.empty((2, 3)).shape, creation.empty(2).dtype) == ((2, 3), np.float32)
    assert creation.empty_like(tg.arange(3), "f8").dtype == np.float64


@pytest.mark.parametrize(
    "made",
    [
        lambda: creation.zeros(2, requires_grad=True),
        lambda: creation.ones(2, requires_grad=True),
        lambda: creation.empty(2, requires_grad=True),
        lambda: creation.full(2, 0.5, requires_grad=True),
        lambda: creation.eye(2, requires_grad=True),
        lambda: creation.arange(2.0, requires_grad=True),
        lambda: creation.linspace(0, 1, 3, requires_grad=True),
        lambda: creation.zeros_like(np.ones(2), requires_grad=True),
        lambda: creation.ones_like(tg.ones(2), requires_grad=True),
        lambda: creation.full_like(tg.ones(2), 2.0, requires_grad=True),
        lambda: creation.empty_like(tg.ones(2), requires_grad=True),
    ],
)
def test_requires_grad(made: Any) -> None:
    t = made()
    assert isinstance(t, tg.Tensor) and t.requires_grad and t.is_leaf


def test_like_an_array_is_an_array() -> None:
    x = np.ones((2, 3), "f8")
    for made in (creation.zeros_like(x), creation.ones_like(x), creation.empty_like(x), creation.full_like(x, 2)):
        assert type(made) is np.ndarray and made.shape == (2, 3) and made.dtype == np.float64
    assert type(creation.ones_like(np.float64(3.0))) is np.ndarray


def test_like_carries_no_history() -> None:
    x = tg.ones(2, requires_grad=True)
    assert not creation.zeros_like(x * x).requires_grad


def test_floats_follow_the_default_dtype() -> None:
    tg.set_default_dtype("float64")
    try:
        made = [
            creation.zeros(1),
            creation.full(1, 0.1),
            creation.arange(1.0),
            creation.linspace(0, 1),
            creation.eye(1),
        ]
        assert {t.dtype for t in made} == {np.dtype("float64")}
        assert made[1].item() == 0.1
    finally:
        tg.set_default_dtype("float32")


def test_large_integers_stay_exact() -> None:
    assert creation.arange(2**60, 2**60 + 2).tolist() == [2**60, 2**60 + 1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: creation.zeros((2, -1)), ShapeError, r"zeros: cannot take \(tuple \(2, -1\)\): negative"),
        (lambda: creation.zeros(2, 3), DTypeError, "zeros: cannot take"),  # a second length where the dtype goes
        (lambda: creation.ones("ab"), DTypeError, "ones: cannot take"),
        (lambda: creation.full(2, "x"), DTypeError, "holds no numbers"),
        (lambda: creation.full(2, [1, 2, 3]), ShapeError, "full: cannot take"),
        (lambda: creation.eye(2.5), DTypeError, "eye: cannot take"),
        (lambda: creation.arange(0, 1, 0), ArgumentError, "arange: cannot take"),
        (lambda: creation.linspace(0, 1, -1), ArgumentError, "linspace: cannot take"),
        (lambda: creation.zeros_like(tg.ones(2), "nothing"), DTypeError, "zeros_like: cannot take"),
        (lambda: creation.zeros(2, "int64", requires_grad=True), DTypeError, "int64 cannot have a gradient"),
    ],
)
def test_refusals(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
