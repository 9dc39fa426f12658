"""What a type checker knows of the public surface. mypy checks this file with the package; pytest runs it as well."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np

import tinygrad_nn as tg
from tinygrad_nn import nn, optim


def test_tensors_stay_tensors() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    assert_type(x, tg.Tensor)
    assert_type(2.0 * x + 1 - x / 2, tg.Tensor)
    assert_type(x @ x, tg.Tensor)
    assert_type(x[0], tg.Tensor)
    assert_type(x.sum(axis=0), tg.Tensor)
    assert_type(x.T, tg.Tensor)
    assert_type(x > 0, tg.Tensor)
    assert_type(tg.exp(x), tg.Tensor)
    assert_type(tg.maximum(x, 0.0), tg.Tensor)
    assert_type(x.grad, tg.Tensor | None)
    assert_type(x.detach().numpy(), np.ndarray[Any, Any])
    assert_type(x.shape, tuple[int, ...])


def test_arrays_stay_arrays() -> None:
    assert_type(tg.exp(np.ones(2)), np.ndarray[Any, np.dtype[Any]])
    assert_type(tg.add(np.ones(2), 1), np.ndarray[Any, np.dtype[Any]])


def test_networks_are_typed() -> None:
    model = nn.Sequential(nn.Linear(2, 1))
    sgd = optim.SGD(model.parameters(), lr=0.1)
    sgd.zero_grad()
    (slope,) = tg.autograd.grad(model(tg.ones((1, 2))).sum(), list(model.parameters())[1:])
    assert_type(slope, tg.Tensor | None)
    assert slope is not None
