"""Starting values: bounds, variances and orthogonality as the formulas say, reproducible, in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError, ShapeError
from tinygrad_nn.nn import Parameter, init

SHAPE = (200, 30, 3, 2)  # fan_in 180, fan_out 1200
FILLS: dict[str, tuple[Any, float, float]] = {  # fill, its standard deviation, its largest value (inf: none)
    "uniform": (lambda w, **k: init.uniform_(w, -1.0, 3.0, **k), 4 / math.sqrt(12), 3.0),
    "normal": (lambda w, **k: init.normal_(w, 1.0, 0.5, **k), 0.5, math.inf),
    "xavier uniform": (
        lambda w, **k: init.xavier_uniform_(w, 2.0, **k),
        2 * math.sqrt(2 / 1380),
        2 * math.sqrt(6 / 1380),
    ),
    "xavier normal": (lambda w, **k: init.xavier_normal_(w, 2.0, **k), 2 * math.sqrt(2 / 1380), math.inf),
    "kaiming uniform": (lambda w, **k: init.kaiming_uniform_(w, **k), math.sqrt(2 / 180), math.sqrt(6 / 180)),
    "kaiming normal": (
        lambda w, **k: init.kaiming_normal_(w, mode="fan_out", nonlinearity="tanh", **k),
        5 / 3 / math.sqrt(1200),
        math.inf,
    ),
    "kaiming leaky": (
        lambda w, **k: init.kaiming_uniform_(w, math.sqrt(5), **k),
        1 / math.sqrt(3 * 180),
        1 / math.sqrt(180),
    ),
    "truncated": (lambda w, **k: init.trunc_normal_(w, std=0.02, **k), 0.02, 2.0),
    "orthogonal": (lambda w, **k: init.orthogonal_(w, **k), 1 / math.sqrt(200), 1.0),
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", FILLS)
def test_spread_and_bounds(name: str, dtype: str) -> None:
    fill, deviation, largest = FILLS[name]
    w = Parameter(np.zeros(SHAPE, dtype))
    array = w.data
    assert fill(w, generator=np.random.default_rng(0)) is w
    assert w.data is array and w.dtype == dtype and w.requires_grad and w.is_leaf
    values = array.astype("float64")
    assert abs(values.std() / deviation - 1) < 0.02
    assert abs(values).max() <= largest * 1.001
    again = fill(tg.empty(SHAPE, dtype), generator=np.random.default_rng(0))
    np.testing.assert_array_equal(again.data, array)


@pytest.mark.parametrize("name", FILLS)
def test_the_default_generator_is_the_seeded_one(name: str) -> None:
    fill = FILLS[name][0]
    tg.manual_seed(3)
    a = fill(tg.empty(SHAPE)).data
    b = fill(tg.empty(SHAPE)).data
    tg.manual_seed(3)
    np.testing.assert_array_equal(fill(tg.empty(SHAPE)).data, a)
    assert (a != b).any()


def test_means() -> None:
    rng = np.random.default_rng(0)
    assert abs(init.uniform_(tg.empty(100_000), -1.0, 3.0, rng).data.mean() - 1.0) < 0.02
    assert abs(init.normal_(tg.empty(100_000), 1.0, 0.5, rng).data.mean() - 1.0) < 0.01
    assert abs(init.normal_(tg.empty((), "float64"), 2.0, 0.0).item() - 2.0) == 0.0


def test_constants() -> None:
    assert init.constant_(tg.empty((2, 2)), 0.3).tolist() == np.full((2, 2), 0.3, "f4").tolist()
    assert init.ones_(tg.empty(2)).tolist() == [1.0, 1.0]
    assert init.zeros_(tg.ones(2)).tolist() == [0.0, 0.0]


def test_truncated_normal_is_the_conditional_normal() -> None:
    w = init.trunc_normal_(tg.empty(200_000, "float64"), 0.5, 1.0, 0.0, 1.0, np.random.default_rng(0)).data
    assert w.min() >= 0.0 and w.max() <= 1.0
    assert abs(w.mean() - 0.5) < 2e-3
    # variance of a normal between ±a standard deviations: 1 - 2 a φ(a) / (2 Φ(a) - 1), here with a = 1/2
    assert abs(w.var() - (1 - math.exp(-0.125) / math.sqrt(2 * math.pi) / math.erf(0.5 / math.sqrt(2)))) < 1e-3
    one_sided = init.trunc_normal_(tg.empty(1000), 0.0, 1.0, 2.0, math.inf).data
    assert one_sided.min() >= 2.0


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (5, 5), (6, 2, 2, 2)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal_(tg.empty(shape, "float64"), gain=2.0).data.reshape(shape[0], -1)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_orthogonal_draws_all_signs() -> None:
    rng = np.random.default_rng(0)
    signs = [init.orthogonal_(tg.empty((2, 2)), generator=rng).data[0, 0] > 0 for _ in range(200)]
    assert 60 < sum(signs) < 140
    assert init.orthogonal_(tg.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "param", "gain"),
    [
        ("linear", None, 1.0),
        ("conv2d", None, 1.0),
        ("sigmoid", None, 1.0),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("leaky_relu", None, math.sqrt(2 / 1.0001)),
        ("leaky_relu", 0.0, math.sqrt(2)),
        ("leaky_relu", 1, 1.0),
        ("selu", None, 0.75),
    ],
)
def test_gains(name: str, param: float | None, gain: float) -> None:
    assert init.calculate_gain(name, param) == pytest.approx(gain, rel=1e-15)


@pytest.mark.parametrize("name", ["linear", "conv2d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
def test_gains_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fill", "error", "message"),
    [
        (
            lambda w: init.uniform_(w, 1.0, 0.0),
            ArgumentError,
            "uniform_: the bounds must be in order, not a=1.0, b=0.0",
        ),
        (lambda w: init.normal_(w, std=-1.0), ArgumentError, "normal_: the standard deviation must not be negative"),
        (lambda w: init.trunc_normal_(w, std=0.0), ArgumentError, "trunc_normal_: the standard deviation must be pos"),
        (
            lambda w: init.trunc_normal_(w, std=0.1, a=2.0, b=3.0),
            ArgumentError,
            r"only 0 of normal\(0.0, 0.1\) lies in",
        ),
        (lambda w: init.trunc_normal_(w, a=2.0, b=1.0), ArgumentError, r"lies in \[2.0, 1.0\]"),
        (lambda w: init.kaiming_normal_(w, mode="in"), ArgumentError, "mode must be 'fan_in' or 'fan_out', not 'in'"),
        (lambda w: init.kaiming_normal_(w, nonlinearity="swish"), ArgumentError, "unknown nonlinearity 'swish'; there"),
        (lambda w: init.xavier_normal_(tg.ones(3)), ShapeError, r"xavier_normal_: fans need .* not float32\(3,\)"),
        (lambda w: init.kaiming_uniform_(tg.ones((0, 3))), ShapeError, "has no elements"),
        (lambda w: init.orthogonal_(tg.ones(3)), ShapeError, "orthogonal_: needs at least 2 axes"),
        (lambda w: init.zeros_(tg.ones(3, "int64")), DTypeError, r"zeros_: int64\(3,\) is not floating"),
        (lambda w: init.ones_(w * 2.0), ArgumentError, r"ones_: float32\(2, 2\) is the result of an operation"),
    ],
)
def test_fills_that_cannot_be(fill: Any, error: type[Exception], message: str) -> None:
    w = Parameter(np.ones((2, 2), "f4"))
    with pytest.raises(error, match=message):
        fill(w)
    assert w.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_filling_is_noticed_by_a_recorded_graph() -> None:
    w = Parameter([1.0, 2.0])
    loss = (w * w).sum()
    init.ones_(w)
    with pytest.raises(GraphError, match="ones_ wrote into"):
        loss.backward()
