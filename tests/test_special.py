"""erf against math.erf, known constants, special values, dtypes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tinygrad_nn.ops.special import erf

RNG = np.random.default_rng(0)
EVERYWHERE = np.concatenate(
    [
        RNG.normal(size=5000),
        np.linspace(-7.0, 7.0, 5001),
        10.0 ** RNG.uniform(-30.0, 1.0, 2000),
        np.nextafter(1.0, [0.0, 2.0]),  # both sides of where the formula changes
        [-1.0, 1.0, 4.0, 6.0],
    ]
)


def ulps(given: np.ndarray, wanted: np.ndarray) -> float:
    """The largest distance in units of the last place of the given dtype."""
    unit = np.spacing(np.abs(wanted.astype(given.dtype))).astype(np.float64)
    return float(np.max(np.abs(given.astype(np.float64) - wanted) / unit))


@pytest.mark.parametrize(("dtype", "most"), [(np.float64, 3.0), (np.float32, 3.0), (np.float16, 0.51)])
def test_accuracy(dtype: type, most: float) -> None:
    x = EVERYWHERE.astype(dtype)
    y = erf(x)
    assert y.dtype == dtype
    assert ulps(y, np.array([math.erf(v) for v in x.astype(np.float64)])) <= most


def test_constants() -> None:
    # Abramowitz and Stegun, table 7.1
    given = erf(np.array([0.5, 1.0, 2.0, -1.5]))
    assert given.tolist() == pytest.approx([0.5204998778, 0.8427007929, 0.9953222650, -0.9661051465], rel=1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_ends(dtype: type) -> None:
    big = np.finfo(dtype).max
    y = erf(np.array([np.inf, -np.inf, big, -big, 0.0, -0.0, np.nan], dtype))
    assert y[:6].tolist() == [1.0, -1.0, 1.0, -1.0, 0.0, 0.0]
    assert np.signbit(y[5])
    assert np.isnan(y[6])


def test_shapes_and_layout() -> None:
    x = RNG.normal(size=(3, 40, 200))  # more than one block
    wanted = np.vectorize(math.erf)(x)
    np.testing.assert_allclose(erf(x), wanted, rtol=1e-15)
    np.testing.assert_allclose(erf(x.T[::2]), wanted.T[::2], rtol=1e-15)
    assert erf(np.zeros((0, 3), np.float32)).shape == (0, 3)
    number = erf(np.float32(0.5))
    assert number.shape == ()
    assert number.dtype == np.float32
    assert erf(np.array([1, 2])).dtype == np.float64


def test_input_is_left_alone() -> None:
    x = RNG.normal(size=100)
    before = x.copy()
    erf(x)
    assert np.array_equal(x, before)
