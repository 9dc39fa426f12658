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
        (lambda: tg.func.grad(pow, argnums=(0, -2))(2.0, 3.0), ArgumentError, "names an argument twice"),
        (lambda: tg.func.grad(cube)(3), DTypeError, "only floating dtypes"),
        (lambda: tg.func.vjp(lambda x: 1.0, 2.0), ArgumentError, "vjp: the function must return a Tensor"),
        (lambda: tg.func.jvp(cube, (1.0,), ()), ArgumentError, "1 primals but 0 tangents"),
        (lambda: tg.func.jvp(cube, (tg.ones(2),), (tg.ones(3),)), ArgumentError, "tangent float32(3,)"),
        (lambda: tg.func.jvp(lambda p: p["a"], ({"a": tg.ones(2)},), ([tg.ones(2)],)), ArgumentError, "not the form"),
    ],
)
def test_errors(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


# -- Jacobians, Hessians, products -------------------------------------------------------------------------------------


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def close(given: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(given.data), np.asarray(wanted), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("transform", [tg.func.jacrev, tg.func.jacfwd])
def test_jacobians_by_hand(transform: Any) -> None:
    x = np.array([1.0, 2.0])
    close(transform(lambda v: tg.stack([v[0] * v[1], v[0] ** 2, v[1]]))(x), [[2.0, 1.0], [2.0, 0.0], [0.0, 1.0]])
    assert transform(lambda v: v.sum())(x).shape == (2,)
    assert transform(lambda v: v.sum(keepdims=True))(x).shape == (1, 2)
    assert transform(lambda v: v * 2)(2.0).shape == ()
    assert transform(lambda v: tg.outer(v, v))(x).shape == (2, 2, 2)
    assert transform(lambda v: v[:0])(x).shape == (0, 2)
    assert transform(lambda v: v.sum())(np.zeros((0, 3))).shape == (0, 3)
    close(transform(lambda v: tg.ones(3, dtype="float64"))(x), np.zeros((3, 2)))
    assert transform(lambda v: v * 2)(tg.ones(2)).dtype == np.float32


@pytest.mark.parametrize("transform", [tg.func.jacrev, tg.func.jacfwd])
def test_jacobians_of_trees(transform: Any) -> None:
    a, b = np.array([1.0, 2.0]), np.array(3.0)

    def f(p: Any, c: Any) -> Any:
        return {"u": p["a"] * p["b"] * c, "v": [p["a"].sum(), c]}

    found = transform(f, (0, 1))({"a": a, "b": b}, np.array(2.0))
    close(found["u"][0]["a"], 6 * np.eye(2))
    close(found["u"][0]["b"], 2 * a)
    close(found["u"][1], 3 * a)
    close(found["v"][0][0]["a"], [1.0, 1.0])
    close(found["v"][1][0]["a"], [0.0, 0.0])
    close(found["v"][1][1], 1.0)
    single = transform(f, 1)({"a": a, "b": b}, np.array(2.0))
    close(single["u"], 3 * a)
    both = transform(lambda x: (x**2, x.detach()), has_aux=True)(a)
    close(both[0], np.diag(2 * a))
    close(both[1], a)


def test_hessians_of_trees() -> None:
    a, b = np.array([1.0, 2.0]), np.array(3.0)
    found = tg.func.hessian(lambda p: (p["a"] ** 2).sum() * p["b"])({"a": a, "b": b})
    close(found["a"]["a"], 6 * np.eye(2))
    close(found["a"]["b"], 2 * a)
    close(found["b"]["a"], 2 * a)
    close(found["b"]["b"], 0.0)
    of_two = tg.func.hessian(lambda x, y: (x * y**2).sum(), (0, 1))(a, a)
    close(of_two[0][1], np.diag(2 * a))
    close(of_two[1][1], np.diag(2 * a))
    rows = tg.func.hessian(lambda x: x**3)(a)
    assert rows.shape == (2, 2, 2)
    close(rows, np.einsum("ij,ik,i->ijk", np.eye(2), np.eye(2), 6 * a))


def test_products_of_trees() -> None:
    a, v = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    found = tg.func.hvp(lambda p: (p["a"] ** 3).sum(), {"a": a}, {"a": v})
    close(found["a"], 6 * a * v)
    pair = tg.func.hvp(lambda x, y: (x * y**2).sum(), (a, a), (v, v))
    close(pair[0], 2 * a * v)
    close(pair[1], 2 * a * v + 2 * a * v)
    y, pull = tg.func.vjp(lambda x: {"s": x.sum(), "r": x * 2}, a)
    close(y["r"], 2 * a)
    close(pull({"s": 1.0, "r": v})[0], 1 + 2 * v)
    y, moved = tg.func.jvp(lambda x: (x.sum(), [x * 2]), (a,), (v,))
    close(moved[0], v.sum())
    close(moved[1][0], 2 * v)
    assert tg.func.vjp(lambda x: (x, "aux"), a, has_aux=True)[2] == "aux"
    assert tg.func.jvp(lambda x: (x, "aux"), (a,), (v,), has_aux=True)[2] == "aux"


def test_gauss_newton_product_is_jacobian_twice() -> None:
    r = rng()
    w, x, v = r.normal(size=(3, 4)), r.normal(size=4), r.normal(size=(3, 4))

    def model(weight: Any) -> Any:
        return tg.tanh(tg.asarray(weight) @ tg.asarray(x))

    def loss(y: Any) -> Any:
        return tg.logsumexp(y) + (y**4).sum()

    j = tg.func.jacrev(model)(w).data.reshape(3, 12)
    h = tg.func.hessian(loss)(model(w)).data
    close(tg.func.ggnvp(model, loss, w, v), (j.T @ h @ j @ v.ravel()).reshape(3, 4))
    several = tg.func.ggnvp(lambda a, b: a * b, lambda y: (y**2).sum() / 2, (x, x), (v[0], v[1]))
    close(several[0], x * (x * v[0] + x * v[1]))


def test_linearize_runs_the_function_once() -> None:
    calls: list[int] = []

    def f(x: Any, y: Any) -> Any:
        calls.append(1)
        return x * y

    value, push = tg.func.linearize(f, np.array([1.0, 2.0]), 3.0)
    close(value, [3.0, 6.0])
    close(push([1.0, 0.0], 0.0), [3.0, 0.0])
    close(push([0.0, 0.0], 1.0), [1.0, 2.0])
    assert calls == [1]
    with pytest.raises(ArgumentError, match="2 primals but 1 tangents"):
        push([1.0, 0.0])
    with pytest.raises(ArgumentError, match="tangent"):
        push([1.0, 0.0, 0.0], 1.0)


@pytest.mark.parametrize("transform", [tg.func.jacrev, tg.func.jacfwd])
def test_a_jacobian_is_differentiable_by_what_it_captures(transform: Any) -> None:
    w = tg.tensor([2.0, 3.0], requires_grad=True)
    j = transform(lambda x: (w * x**2).sum())(tg.tensor([1.0, 2.0]))
    j.sum().backward()
    close(w.grad, [2.0, 4.0])
    with tg.no_grad():
        assert not transform(lambda x: (w * x**2).sum())(tg.tensor([1.0, 2.0])).requires_grad


def test_a_forward_jacobian_is_one_walk_for_all_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []
    forward = tg.strong_zero.forward

    def counted(*args: Any, **kwargs: Any) -> None:
        walks.append(1)
        forward(*args, **kwargs)

    monkeypatch.setattr(tg.strong_zero, "forward", counted)
    x = {"a": np.array([1.0, 2.0]), "b": np.array(3.0), "none": np.zeros((0, 2)), "unused": np.ones(2)}
    found = tg.func.jacfwd(lambda p: p["a"] * p["b"] + p["none"].sum())(x)
    close(found["a"], 3 * np.eye(2))
    close(found["b"], x["a"])
    close(found["unused"], np.zeros((2, 2)))
    assert found["none"].shape == (2, 0, 2)
    assert len(walks) == 1


def test_gradients_share_no_memory() -> None:
    """Not with each other, nor with the cotangent they came from, although arrays that are nobody else's are kept."""
    a, g = np.ones((2, 3)), np.ones((2, 3))
    first, second = tg.func.vjp(lambda a, b: a + b, a, a)[1](tg.asarray(g))
    wide, turned = tg.func.vjp(lambda a, b: a + b.T, a, a.T)[1](tg.asarray(g))
    memories = [first.data, second.data, wide.data, turned.data, a, g]
    assert not any(np.shares_memory(p, q) for i, p in enumerate(memories) for q in memories[:i])
    assert all(m.flags.writeable for m in memories)
    assert tg.func.grad(lambda x: x.sum())(a).data.flags.writeable


def test_perturbations_do_not_mix() -> None:
    """d/dx (x · d/dy (x + y)) = 1: the classic trap (Siskind & Pearlmutter, 2005), in all four nestings."""
    modes = {
        "reverse": lambda f: tg.func.grad(f),
        "forward": lambda f: lambda x: tg.func.jvp(f, (x,), (1.0,))[1],
    }
    for outer in modes.values():
        for inner in modes.values():
            found = outer(lambda x, inner=inner: x * inner(lambda y, x=x: x + y)(1.0))(1.0)
            assert found.item() == 1.0
            found = outer(lambda x, inner=inner: x * inner(lambda y, x=x: x * y**2)(2.0))(3.0)
            assert found.item() == 24.0  # x · 2xy = 4x², whose slope is 8x


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tg.func.jacrev(lambda x: 2.0)(1.0), "jacrev: the function must return a Tensor"),
        (lambda: tg.func.jacfwd(lambda x: x, 1)(1.0), "argnums 1 for 1 arguments"),
        (lambda: tg.func.jacrev(lambda x: x, has_aux=True)(1.0), "must return (value, aux)"),
        (lambda: tg.func.hvp(lambda x: x, (1.0,), 1.0), "hvp: primals and tangents are tuples"),
        (lambda: tg.func.hvp(lambda x: x * 1.0, tg.ones(2), tg.ones(2)), "must return one number"),
        (lambda: tg.func.ggnvp(lambda x: x, lambda y: y.sum(), (1.0,), ()), "1 primals but 0 tangents"),
        (lambda: tg.func.grad(lambda x: (x, x))(1.0), "must return one number as a Tensor, not 2 tensors"),
        (lambda: tg.func.vjp(lambda x: [x], tg.ones(2))[1](tg.ones(2)), "has not the form"),
        (lambda: tg.func.vjp(lambda x: x, tg.ones(2))[1](tg.ones(3)), "cotangent float32(3,)"),
    ],
)
def test_errors_of_jacobians(call: Any, words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        call()
    assert words in str(caught.value)


def test_forward_mode_of_many_arguments_takes_linear_time() -> None:
    """Each tangent is pushed once through `stack` and `concat`, not each in a result of its own."""
    made: list[int] = []
    x, v = np.arange(50.0), np.cos(np.arange(50.0))

    def f(x: Any) -> Any:
        rows = [x[k] * k for k in range(50)]
        return tg.stack([*rows, np.float64(1.0)]), tg.concat([row[None] ** 2 for row in rows])

    stack = tg.registry.OPS["stack"]
    forward = stack.forward
    stack.forward = lambda *xs, axis: made.append(1) or forward(*xs, axis=axis)
    try:
        _, (stacked, joined) = tg.func.jvp(f, (x,), (v,))
        columns = tg.func.jacfwd(lambda x: f(x)[1])(x)
    finally:
        stack.forward = forward
    k = np.arange(50)
    close(stacked, np.append(v * k, 0.0))
    close(joined, 2 * x * k**2 * v)
    close(columns, np.diag(2 * x * k**2))
    assert len(made) < 5


# -- results that nobody can differentiate any more --------------------------------------------------------------------


def product(q: Any, v: Any) -> Any:
    return tg.sin(v) * q * q


@pytest.mark.parametrize(
    "transform",
    [
        lambda q: tg.func.grad(lambda q: tg.func.grad(lambda v: product(q, v))(2.0))(q),
        lambda q: tg.func.jacfwd(tg.func.grad(product, 1), 0)(q, tg.tensor(2.0)),
        lambda q: tg.func.jacrev(tg.func.grad(product, 1), 0)(q, tg.tensor(2.0)),
        lambda q: tg.func.jvp(lambda q: tg.func.grad(product, 1)(q, 2.0), (q,), (tg.tensor(1.0),))[1],
        lambda q: tg.func.vjp(lambda q: tg.func.grad(product, 1)(q, 2.0), q)[0] * 2.0 / q,
        lambda q: tg.func.linearize(lambda q: tg.func.grad(product, 1)(q, 2.0), q)[1](tg.tensor(1.0)),
        lambda q: tg.func.vmap(tg.func.jacfwd(tg.func.grad(product, 1), 0))(q[None], tg.tensor([2.0]))[0],
    ],
)
def test_mixed_derivatives_have_no_history_of_runs_that_are_over(transform: Any) -> None:
    """They would walk all earlier steps of a loop that feeds them back."""
    q = tg.tensor(3.0)
    found = transform(q)
    assert not found.requires_grad
    np.testing.assert_allclose(found.data, 6.0 * np.cos(2.0), rtol=1e-6)
    x = tg.tensor(3.0, requires_grad=True)
    transform(x).backward()  # and that of tensors outside is kept
    np.testing.assert_allclose(x.grad.data, 2.0 * np.cos(2.0), rtol=1e-6)


def test_a_run_that_failed_is_over() -> None:
    kept = []

    def failing(v: Any) -> Any:
        kept.append(v * v)
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        tg.func.grad(failing)(2.0)
    assert not tg.func.grad(lambda q: q * kept[0])(1.0).requires_grad


def test_a_checkpoint_runs_again_as_in_the_run_it_was_made_in() -> None:
    def part(z: Any, x: Any) -> Any:
        return tg.func.grad(lambda w: w * w * z)(2.0) * (x * 1.0).sin()

    def slope(x: Any) -> Any:
        return tg.func.grad(lambda z: tg.autograd.checkpoint(part, z, x))(3.0)

    for second in (tg.func.hessian(slope), tg.func.grad(tg.func.grad(slope))):
        np.testing.assert_allclose(second(5.0).data, -4.0 * np.sin(5.0), rtol=1e-6)


def test_a_pull_kept_from_a_run_that_is_over_has_no_history() -> None:
    kept: list[Any] = []

    def outer(q: Any) -> Any:
        y, pull = tg.func.vjp(lambda x: x * x * q, tg.tensor(2.0))
        kept.append(pull)
        return y

    assert tg.func.grad(outer)(3.0).item() == 4.0
    (g,) = kept[0](tg.tensor(1.0))
    assert (g.item(), g.requires_grad) == (12.0, False)
