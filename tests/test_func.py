"""Functions of functions: grad, value_and_grad, vjp, jvp; nested, and on nested arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, DTypeError


def cube(x: Any) -> Any:
    return x**3


def test_gradients_have_the_form_of_the_argument() -> None:
    params = {"w": [tg.tensor([1.0, 2.0]), np.array([3.0])], "b": (tg.tensor(4.0),)}

    def loss(p: Any, scale: float) -> Any:
        return scale * ((p["w"][0] ** 2).sum() + p["w"][1].sum() * p["b"][0])

    found = tg.func.grad(loss)(params, 2.0)
    assert list(found) == ["w", "b"]
    assert [g.tolist() for g in found["w"]] == [[4.0, 8.0], [8.0]]
    assert isinstance(found["b"], tuple)
    assert found["b"][0].item() == 6.0
    assert found["w"][1].dtype == np.float64


def test_a_list_of_numbers_is_an_array() -> None:
    found = tg.func.grad(lambda x: (x * x).sum())([1.0, 2.0])
    assert found.tolist() == [2.0, 4.0]


def test_several_arguments() -> None:
    found = tg.func.grad(lambda a, b: (a * b[0]).sum(), argnums=(1, 0))(tg.tensor([1.0, 2.0]), [tg.tensor(3.0)])
    assert found[0][0].item() == 3.0
    assert found[1].tolist() == [3.0, 3.0]


def test_aux() -> None:
    (value, aux), found = tg.func.value_and_grad(lambda x: (x * x, "kept"), has_aux=True)(3.0)
    assert (value.item(), aux, found.item()) == (9.0, "kept", 6.0)
    assert tg.func.grad(lambda x: (x * x, 7), has_aux=True)(3.0)[1] == 7


def test_vjp_and_jvp_of_trees() -> None:
    def product(p: Any) -> Any:
        return p["a"] * p["b"]

    p = {"a": tg.tensor([2.0, 3.0]), "b": tg.tensor([5.0, 7.0])}
    _, pull = tg.func.vjp(product, p)
    (found,) = pull(tg.tensor([1.0, 10.0]))
    assert found["a"].tolist() == [5.0, 70.0]
    value, slope = tg.func.jvp(product, (p,), ({"a": tg.tensor([1.0, 0.0]), "b": tg.tensor([0.0, 1.0])},))
    assert value.tolist() == [10.0, 21.0]
    assert slope.tolist() == [5.0, 3.0]


def test_four_nestings_agree() -> None:
    """d²/dx² x³ = 6x, by each mode over each."""

    def forward(f: Any) -> Any:
        return lambda x: tg.func.jvp(f, (x,), (np.float64(1.0),))[1]

    for outer in (forward, tg.func.grad):
        for inner in (forward, tg.func.grad):
            assert outer(inner(cube))(np.float64(2.0)).item() == 12.0


def test_nested_walks_keep_apart_whose_tangents_are_whose() -> None:
    """d/dx x · (d/dy x + y) = 1, d/dx x · (d/dy x·y) = 2x: the classic confusions give 2 and x."""
    inner = tg.func.grad
    assert inner(lambda x: x * inner(lambda y: x + y)(1.0))(1.0).item() == 1.0
    _, slope = tg.func.jvp(lambda x: x * tg.func.jvp(lambda y: x * y, (2.0,), (1.0,))[1], (3.0,), (1.0,))
    assert slope.item() == 6.0


def test_parameters_outside_are_seen_through() -> None:
    w = tg.tensor(3.0, requires_grad=True)
    slope = tg.func.grad(lambda x: w * x * x)(2.0)
    slope.backward()
    assert w.grad is not None
    assert w.grad.item() == 4.0
    assert not tg.func.grad(cube)(2.0).requires_grad


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: tg.func.grad(lambda x: x * 2)(tg.ones(3)), ArgumentError, "must return one number"),
        (lambda: tg.func.grad(cube, argnums=1)(2.0), ArgumentError, "argnums 1 for 1 arguments"),
        (lambda: tg.func.grad(cube)(3), DTypeError, "only floating dtypes"),
        (lambda: tg.func.vjp(lambda x: 1.0, 2.0), ArgumentError, "vjp: the function must return a Tensor"),
        (lambda: tg.func.jvp(cube, (1.0,), ()), ArgumentError, "1 primals but 0 tangents"),
        (lambda: tg.func.jvp(cube, (tg.ones(2),), (tg.ones(3),)), ArgumentError, "tangent float32(3,)"),
        (lambda: tg.func.jvp(lambda p: p["a"] ** 3, ({"a": tg.ones(2)},), ([tg.ones(2)],)), ArgumentError, "not the form"),
    ],
)
def test_errors(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
