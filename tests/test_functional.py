"""Composed functions: constants, slopes at kinks, extremes, errors, and PyTorch's values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
import tinygrad_nn.nn.functional as F
from tinygrad_nn import functional
from tinygrad_nn.errors import ArgumentError, DTypeError

RNG = np.random.default_rng(0)


def slope(fn: Any, at: float, dtype: Any = np.float64) -> float:
    x = tg.tensor(np.array([at], dtype), requires_grad=True)
    fn(x).sum().backward()
    return float(x.grad.item())


def test_step() -> None:
    y = functional.step([-1, 1, 2])
    assert y.tolist() == [0, 1, 1]
    assert y.dtype.kind == "i"
    t = functional.step(tg.tensor([0.0, 0.5], requires_grad=True))
    assert t.tolist() == [0, 1]
    assert not t.requires_grad


def test_constants() -> None:
    assert functional.gelu(1.0) == pytest.approx(0.8413447460685429, rel=1e-15)
    assert functional.gelu(1.0, "tanh") == pytest.approx(0.8411919906082768, rel=1e-15)
    assert functional.elu(np.array([-1.0])).item() == pytest.approx(math.exp(-1) - 1)
    assert functional.leaky_relu(np.array([-2.0, 2.0])).tolist() == [-0.02, 2.0]
    assert functional.hardtanh(np.array([-3.0, 0.25, 3.0])).tolist() == [-1.0, 0.25, 1.0]
    assert functional.relu6([-3.0, 0.25, 7.0]).tolist() == [0.0, 0.25, 6.0]
    assert functional.log_sigmoid(np.array([0.0])).item() == pytest.approx(-math.log(2))


@pytest.mark.parametrize(
    ("fn", "at", "wanted"),
    [
        (functional.leaky_relu, 0.0, 0.01),
        (functional.elu, 0.0, 1.0),
        (functional.hardtanh, 1.0, 0.0),
        (functional.hardtanh, -1.0, 0.0),
        (functional.relu6, 0.0, 0.0),
        (functional.relu6, 6.0, 0.0),
        (functional.relu6, 3.0, 1.0),
        (functional.gelu, 0.0, 0.5),
        (functional.log_sigmoid, 0.0, 0.5),
        (F.softplus, 0.0, 0.5),
        (F.softplus, 30.0, 1.0),
    ],
)
def test_slopes_at_kinks(fn: Any, at: float, wanted: float) -> None:
    assert slope(fn, at) == pytest.approx(wanted)


SMOOTH = [
    functional.gelu,
    lambda x: functional.gelu(x, "tanh"),
    functional.leaky_relu,
    functional.elu,
    functional.hardtanh,
    functional.relu6,
    functional.log_sigmoid,
    F.softplus,
    F.silu,
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fn", SMOOTH)
def test_extremes(fn: Any, dtype: Any) -> None:
    x = tg.tensor(np.array([-1e4, -1.0, 0.0, 1.0, 1e4], dtype), requires_grad=True)
    y = fn(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    assert np.isfinite(y.data).all()
    assert np.isfinite(x.grad.data).all()


@pytest.mark.parametrize("fn", SMOOTH)
def test_dtype_and_kind_kept(fn: Any) -> None:
    x = RNG.normal(size=(2, 3)).astype(np.float16)
    assert isinstance(fn(x), np.ndarray)
    assert fn(x).dtype == np.float16
    assert isinstance(fn(tg.asarray(x)), tg.Tensor)


def test_one_hot() -> None:
    assert functional.one_hot(np.array([[0, 2]]), 3).tolist() == [[[1, 0, 0], [0, 0, 1]]]
    assert functional.one_hot([1, 0]).tolist() == [[0, 1], [1, 0]]
    assert functional.one_hot(tg.tensor([1]), 2, "float32").dtype == np.float32
    assert functional.one_hot(np.zeros(0, int), 3).shape == (0, 3)
    with pytest.raises(ArgumentError, match="3 classes are numbered 0 to 2"):
        functional.one_hot([3], 3)
    with pytest.raises(ArgumentError, match="-1"):
        functional.one_hot([-1], 3)
    with pytest.raises(ArgumentError, match="num_classes must be given"):
        functional.one_hot(np.zeros(0, int))
    with pytest.raises(DTypeError, match="integers"):
        functional.one_hot([0.5], 3)


def test_dropout() -> None:
    x = tg.tensor(np.ones((100, 100), np.float32), requires_grad=True)
    y = functional.dropout(x, 0.25, generator=np.random.default_rng(0))
    assert y.dtype == np.float32
    values, counts = np.unique(y.data, return_counts=True)
    assert values.tolist() == pytest.approx([0.0, 4 / 3])
    assert counts[0] == pytest.approx(2500, abs=200)
    y.sum().backward()
    assert np.array_equal(x.grad.data, y.data)  # what was dropped gets nothing, the rest its factor
    again = functional.dropout(x, 0.25, generator=np.random.default_rng(0))
    assert np.array_equal(again.data, y.data)


def test_dropout_off_and_whole() -> None:
    x = tg.ones(10)
    assert functional.dropout(x, 0.5, training=False) is x
    assert functional.dropout(x, 0.0) is x
    assert functional.dropout(x, 1.0).tolist() == [0.0] * 10
    tg.manual_seed(1)
    first = functional.dropout(x)
    tg.manual_seed(1)
    assert np.array_equal(functional.dropout(x).data, first.data)
    with pytest.raises(ArgumentError, match="probability"):
        functional.dropout(x, 1.5)
    with pytest.raises(DTypeError, match="floating"):
        functional.dropout(tg.tensor([1, 2]))


def test_errors() -> None:
    with pytest.raises(ArgumentError, match="approximate 'erf'"):
        functional.gelu(1.0, "erf")
    with pytest.raises(ArgumentError, match="must be less"):
        functional.hardtanh(1.0, 2.0, 1.0)


def test_softmax_takes_both_names_of_the_axis() -> None:
    x = RNG.normal(size=(2, 3))
    assert np.array_equal(F.softmax(x, dim=0), F.softmax(x, axis=0))
    assert np.array_equal(F.softmax(x, 0), tg.softmax(x, 0))
    assert np.array_equal(F.log_softmax(x, dim=0), F.log_softmax(x, axis=0))
    assert np.array_equal(F.softmax(x), F.softmax(x, 1))


ACTIVATIONS = [
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("leaky_relu", {"negative_slope": 0.2}),
    ("elu", {"alpha": 0.7}),
    ("hardtanh", {"min_val": -0.5, "max_val": 2.0}),
    ("relu6", {}),
    ("logsigmoid", {}),
    ("silu", {}),
    ("relu", {}),
    ("softplus", {}),
    ("softplus", {"beta": 3.0, "threshold": 5.0}),
    ("softmax", {"dim": 0}),
    ("log_softmax", {"dim": 1}),
]


@pytest.mark.parametrize(("name", "how"), ACTIVATIONS)
def test_pytorch_agrees(name: str, how: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    x = RNG.normal(size=(40, 5)) * 5
    x[0] = [0.0, 1.0, -1.0, 6.0, 2.0]
    theirs = torch.tensor(x, requires_grad=True)
    wanted = getattr(torch.nn.functional, name)(theirs, **how)
    mine = tg.tensor(x, requires_grad=True)
    given = getattr(F, name)(mine, **how)
    w = RNG.normal(size=given.shape)
    given.backward(w)
    wanted.backward(torch.tensor(w))
    np.testing.assert_allclose(given.data, wanted.detach().numpy(), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(mine.grad.data, theirs.grad.numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("shape", [(4, 3, 1), (1, 3, 5), (4, 3, 1, 1), (4, 3, 2), (4, 70)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_cross_entropy_of_any_layout(shape: tuple[int, ...], reduction: str) -> None:
    """Its slopes are share · (softmax - one-hot), whatever the strides of the logits."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape), rng.integers(0, shape[1], (shape[0], *shape[2:]))
    one_hot = np.moveaxis(np.eye(shape[1])[y], -1, 1)
    soft = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    wanted = (soft - one_hot) / (y.size if reduction == "mean" else 1)
    channels_last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    for given in (x, np.asfortranarray(x), channels_last):
        found = tg.func.grad(lambda x: F.cross_entropy(x, y, reduction=reduction).sum())(given)
        np.testing.assert_allclose(found.data, wanted, rtol=1e-12, atol=1e-14)
