"""Faults found by attacking the package, each with the smallest case that showed it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, GraphError, ShapeError


def leaf(*values: float, dtype: str = "float32") -> tg.Tensor:
    return tg.tensor(list(values), dtype=dtype, requires_grad=True)


# -- arrays written after they were recorded ---------------------------------------------------------------------------


def test_backward_into_a_gradient_that_another_graph_kept_is_noticed() -> None:
    x, w = leaf(1, 2), leaf(1, 1)
    (x * x).sum().backward()
    assert x.grad is not None
    later = (x.grad * w).sum()
    (x * x).sum().backward()
    with pytest.raises(GraphError, match=r"backward, adding to \.grad, wrote into"):
        later.backward()


def test_writing_into_an_index_that_backward_needs_is_noticed() -> None:
    x, index, mask = leaf(1, 2, 3), tg.tensor([0, 1]), tg.tensor([True, False, True])
    read, chosen, both = x[index], tg.where(mask, x, 0.0), x[(index,)]
    index[0] = 2
    mask[0] = False
    for result, what in ((read, "index"), (chosen, "condition"), (both, "index")):
        with pytest.raises(GraphError, match=f"needs its {what}"):
            result.sum().backward()


def test_forward_mode_notices_a_write() -> None:
    def scaled(x: tg.Tensor) -> tg.Tensor:
        factor = tg.ones(2)
        y: tg.Tensor = x * factor
        factor += 5.0
        return y

    with pytest.raises(GraphError, match="wrote into"):
        tg.func.jvp(scaled, (tg.tensor([1.0, 2.0]),), (tg.tensor([1.0, 1.0]),))


# -- hooks and starting gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [lambda g: g.astype("float64"), lambda g: g.data.astype("float64")])
def test_a_hook_that_returns_another_dtype_or_an_array(convert: Any) -> None:
    x = leaf(1, 2, 3)
    part = x[0:2]
    part.register_hook(convert)
    x.register_hook(convert)
    part.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [1, 1, 0]


def test_a_hook_that_returns_something_else_is_told() -> None:
    x = leaf(1, 2)
    x.register_hook(lambda g: 2.0)  # type: ignore[arg-type,return-value]
    with pytest.raises(ArgumentError, match=r"hook: returned float 2.0 for a gradient of shape \(2,\)"):
        (x * x).sum().backward()


def test_a_hook_cannot_write_into_a_gradient_that_others_share() -> None:
    x, y = leaf(1, 2), leaf(3, 4)

    def scale(g: tg.Tensor) -> None:
        g *= 10

    x.register_hook(scale)
    with pytest.raises(ShapeError, match="read-only"):
        ((x + y) * 2.0).sum().backward()


def test_a_gradient_that_a_hook_gave_is_not_handed_out_itself() -> None:
    x, own = leaf(1, 2), tg.tensor([5.0, 6.0])
    y = x * 2.0
    y.register_hook(lambda g: own)
    (g,) = tg.autograd.grad((y * y + y).sum(), y)
    assert g is not None
    g *= 0.0
    assert own.tolist() == [5, 6]


def test_a_recorded_starting_gradient_is_cast_to_the_result() -> None:
    x, start = leaf(1, 2, 3), leaf(1, 1, dtype="float64")
    x[0:2].backward(start)
    assert x.grad is not None
    assert x.grad.dtype == np.float32
    assert x.grad.tolist() == [1, 1, 0]


def test_grad_takes_tensors_only() -> None:
    x = leaf(1, 2)
    for wrong in (np.zeros(2, np.float32), 0):
        with pytest.raises(TypeError, match="grad: must be a Tensor or None, not "):
            x.grad = wrong  # type: ignore[assignment]
