"""softmax, log_softmax, logsumexp: constants, extremes, axes, dtypes, and PyTorch's values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import AxisError
from tinygrad_nn.ops.softmax import log_softmax, logsumexp, softmax

RNG = np.random.default_rng(0)


def test_constants() -> None:
    np.testing.assert_allclose(softmax(np.array([0.3, 2.9, 4.0])), [0.01821127, 0.24519181, 0.73659691], rtol=5e-7)
    np.testing.assert_allclose(
        softmax(np.array([1010, 1000, 990])), [9.99954600e-01, 4.53978686e-05, 2.06106005e-09], rtol=1e-8
    )
    assert log_softmax(np.array([0.0, 0.0])).tolist() == [-math.log(2), -math.log(2)]
    assert logsumexp(np.log([1.0, 2.0, 3.0])) == pytest.approx(math.log(6), rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_huge_logits_are_finite(dtype: type) -> None:
    x = tg.tensor(np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]], dtype), requires_grad=True)
    for fn in (softmax, log_softmax, logsumexp):
        y = fn(x, axis=1)
        assert y.dtype == dtype
        assert np.isfinite(y.data).all()
        x.grad = None
        y.backward(np.ones(y.shape, dtype))
        assert x.grad.dtype == dtype
        assert np.isfinite(x.grad.data).all()


def test_hand_derived_gradients() -> None:
    x = tg.tensor(np.array([0.0, math.log(3.0)]), requires_grad=True)  # softmax is (1/4, 3/4)
    softmax(x).backward(np.array([1.0, 0.0]))
    assert x.grad.tolist() == pytest.approx([3 / 16, -3 / 16])
    x.grad = None
    log_softmax(x).backward(np.array([1.0, 0.0]))
    assert x.grad.tolist() == pytest.approx([3 / 4, -3 / 4])
    x.grad = None
    logsumexp(x).backward()
    assert x.grad.tolist() == pytest.approx([1 / 4, 3 / 4])


def test_all_minus_infinity() -> None:
    x = tg.tensor(np.full((2, 3), -np.inf), requires_grad=True)
    y = logsumexp(x, axis=1)
    assert y.tolist() == [-np.inf, -np.inf]
    y.backward(np.ones(2))
    assert x.grad.tolist() == [[0.0] * 3] * 2


def test_masked_places_get_nothing() -> None:
    x = tg.tensor(np.array([0.0, -np.inf, 0.0]), requires_grad=True)
    y = softmax(x)
    assert y.tolist() == [0.5, 0.0, 0.5]
    y.backward(np.array([1.0, 1.0, 0.0]))
    assert x.grad.tolist() == [0.25, 0.0, -0.25]
    assert logsumexp(np.array([np.inf, 0.0])) == np.inf


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (0, 1, 2), None, ()])
def test_every_axis(axis: Any) -> None:
    x = RNG.normal(size=(2, 3, 4))
    e = np.exp(x)
    np.testing.assert_allclose(softmax(x, axis), e / e.sum(axis, keepdims=True), rtol=1e-13)
    np.testing.assert_allclose(log_softmax(x, axis), np.log(e / e.sum(axis, keepdims=True)), rtol=1e-13, atol=1e-13)
    for keepdims in (False, True):
        np.testing.assert_allclose(logsumexp(x, axis, keepdims), np.log(e.sum(axis, keepdims=keepdims)), rtol=1e-13)


@pytest.mark.parametrize("shape", [(40, 5, 10), (1000, 10), (3, 700)])
def test_sizes_of_the_other_way(shape: tuple[int, ...]) -> None:
    """Many short rows are reduced differently from a few or long ones; a NaN stays in its row."""
    x = RNG.normal(size=shape) * 5
    e = np.exp(x)
    for a in (x, np.asfortranarray(x)):
        np.testing.assert_allclose(softmax(a), e / e.sum(-1, keepdims=True), rtol=1e-12)
        np.testing.assert_allclose(logsumexp(a, -1), np.log(e.sum(-1)), rtol=1e-12)
    x[0, ..., 3] = np.nan
    bad = np.isnan(softmax(x))
    assert bad[0].all()
    assert not bad[1:].any()


def test_odd_shapes() -> None:
    assert softmax(3.0) == 1.0
    assert logsumexp(tg.tensor(2.0)).item() == 2.0
    assert softmax(np.zeros((2, 0))).shape == (2, 0)
    assert log_softmax(np.zeros((0, 3), np.float32)).dtype == np.float32
    assert logsumexp(np.zeros((2, 0)), axis=1).tolist() == [-np.inf, -np.inf]
    for fn in (softmax, log_softmax, logsumexp):
        assert np.array_equal(fn([3, 1]), fn(np.array([3.0, 1.0])))  # integers, too


def test_errors() -> None:
    with pytest.raises(AxisError, match="softmax: axis 2"):
        softmax(np.zeros((2, 3)), axis=2)
    with pytest.raises(AxisError, match="twice"):
        logsumexp(np.zeros((2, 3)), axis=(0, 0))
    with pytest.raises(TypeError, match="neither a tensor"):
        log_softmax("text")


def test_input_is_left_alone() -> None:
    x = RNG.normal(size=(4, 5))
    before = x.copy()
    for fn in (softmax, log_softmax, logsumexp):
        fn(x)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_pytorch_agrees(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = RNG.normal(size=(3, 4, 5)) * 5
    theirs = torch.tensor(x, requires_grad=True)
    wanted = getattr(torch, name)(theirs, 1)
    mine = tg.tensor(x, requires_grad=True)
    given = getattr(tg, name)(mine, 1)
    w = RNG.normal(size=given.shape)
    given.backward(w)
    wanted.backward(torch.tensor(w))
    np.testing.assert_allclose(given.data, wanted.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(mine.grad.data, theirs.grad.numpy(), rtol=1e-11, atol=1e-14)
