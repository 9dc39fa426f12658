"""`assert_close` and `assert_gradients` accept what is right and word what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.autograd import GradcheckError
from tinygrad_nn.testing import assert_close, assert_gradients, effort

from . import wrong

EPS = {dtype: float(np.finfo(dtype).eps) for dtype in ("float16", "float32", "float64")}


@pytest.mark.parametrize("dtype", EPS)
def test_tolerance_follows_the_dtype(dtype: str) -> None:
    x = np.array([1.0, 2.0], dtype)
    assert_close(x * np.array(1 + 4 * EPS[dtype], dtype), x)
    with pytest.raises(AssertionError, match="2 of 2 elements differ"):
        assert_close(x * np.array(1 + 0.05, dtype), x)


def test_the_coarser_dtype_counts() -> None:
    assert_close(np.float32([1 / 3]), np.array([1 / 3]), check_dtype=False)
    with pytest.raises(AssertionError, match=r"dtypes differ: actual float32\(1,\), expected float64\(1,\)"):
        assert_close(np.float32([1 / 3]), np.array([1 / 3]))
    with pytest.raises(AssertionError, match="1 of 1 elements"):
        assert_close(np.array([1 / 3]), np.float32([1 / 3]).astype(np.float64))


def test_small_elements_beside_large_ones() -> None:
    assert_close(np.array([1.0, 1e-17]), np.array([1.0, 0.0]))
    with pytest.raises(AssertionError, match="1 of 2"):
        assert_close(np.array([1.0, 1e-9]), np.array([1.0, 0.0]))


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (tg.tensor([1.0, 2.0]), np.float32([1, 2])),
        (tg.tensor([1.0, 2.0]), [1, 2]),
        (tg.tensor(2.0), 2),
        (0.1 + 0.2, 0.3),
        (np.array([np.inf, -np.inf]), np.array([np.inf, -np.inf])),
        (np.array([3, 4]), np.array([3, 4])),
        (np.array([True]), np.array([True])),
        ({"w": [np.ones(2)], "b": 1.0}, {"w": [np.ones(2)], "b": 1.0}),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.array([1 + 2j]), np.array([1 + 2j])),
    ],
)
def test_equal(actual: Any, expected: Any) -> None:
    assert_close(actual, expected)


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (np.ones(2), np.ones((2, 1)), "shapes differ"),
        (np.array([2**62 + 1]), np.array([2**62]), "1 of 1"),
        (np.array([True]), np.array([False]), "1 of 1"),
        (np.array([np.nan]), np.array([np.nan]), "1 of 1"),
        (np.array([np.inf]), np.array([1.0]), "1 of 1"),
        (np.array([np.inf]), np.array([-np.inf]), "1 of 1"),
        ({"w": 1.0}, {"b": 1.0}, "nested differently"),
        ([np.ones(1), {"b": np.ones(1)}], [np.ones(1), {"b": np.zeros(1)}], r"assert_close at \[1\]\['b'\]"),
        (np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.5, 3.0]), r"at \[1\]: actual 2.0, expected 2.5"),
        (np.array([1 + 2j]), np.array([1 - 2j]), "largest difference 4 "),
    ],
)
def test_different(actual: Any, expected: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close(actual, expected)


def test_given_tolerances() -> None:
    assert_close(np.array([1.0]), np.array([1.05]), rtol=0.1)
    assert_close(np.array([1.0]), np.array([1.05]), rtol=0.0, atol=0.1)
    assert_close(np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), equal_nan=True)
    with pytest.raises(AssertionError):
        assert_close(np.array([1.0]), np.array([1 + 1e-15]), rtol=0.0, atol=0.0)


def test_gradients() -> None:
    assert_gradients(wrong.Cube.apply, np.ones(3))
    assert_gradients(lambda x, axis: tg.sum(tg.exp(x), axis=axis), np.ones((2, 2)), 1)
    assert_gradients(wrong.Cube.apply, np.ones(2), order=2)
    with pytest.raises(GradcheckError) as caught:
        assert_gradients(wrong.Sign.apply, np.ones(3))
    assert isinstance(caught.value, AssertionError)
    assert caught.value.result.verdict == "fail"


def test_inconclusive_is_no_pass() -> None:
    with pytest.raises(GradcheckError, match="inconclusive"):
        assert_gradients(wrong.Buried.apply, np.ones(()))


def test_deep_repeats_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def counted(x: Any) -> Any:
        calls.append(x)
        return tg.sin(x)

    assert_gradients(counted, np.ones(()))
    once = len(calls)
    monkeypatch.setattr(effort, "deep", True)
    assert_gradients(counted, np.ones(()))
    assert len(calls) > 10 * once
