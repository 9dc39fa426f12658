"""`vmap` against a loop: every operation of the registry, every axis, every nesting, derivatives in and through it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, BatchError, GraphError, TinygradError
from tinygrad_nn.func import grad, hessian, hvp, jacfwd, jacrev, jvp, vjp, vmap
from tinygrad_nn.registry import OPS, Op
from tinygrad_nn.tensor import Tensor

from . import contract, strategies
from .contract import Trial

NAMES = sorted(OPS)
SMOOTH = [name for name in NAMES if OPS[name].vjps]
Array = np.ndarray[Any, Any]
BATCH = 3


def batches(op: Op) -> list[tuple[Trial, tuple[tuple[Array, ...], ...]]]:
    """Trials of `op`, each with a few more inputs of the same shapes: the other examples of the batch."""
    found = []
    for trial in contract.trials(op):
        rng = np.random.default_rng([trial.seed, 5])
        shapes = [a.shape for a in trial.args]
        others = tuple(strategies.sample(contract.domains(op), shapes, rng) for _ in range(BATCH))
        found.append((trial, others))
    return found


def masks(count: int) -> list[tuple[bool, ...]]:
    """Which arguments have a batch: each alone, and all together."""
    alone = [tuple(i == j for j in range(count)) for i in range(count)]
    return list(dict.fromkeys([*alone, (True,) * count]))


def columns(
    trial: Trial, examples: Sequence[tuple[Array, ...]], mask: tuple[bool, ...]
) -> tuple[list[Array], list[list[Array]]]:
    """The arguments of the batched call, and those of each call of the loop."""
    joined = [np.stack([e[i] for e in examples]) if m else trial.args[i] for i, m in enumerate(mask)]
    rows = [[e[i] if m else trial.args[i] for i, m in enumerate(mask)] for e in examples]
    return joined, rows


def in_axes(mask: tuple[bool, ...]) -> tuple[int | None, ...]:
    return tuple(0 if m else None for m in mask)


def close(given: Any, wanted: Any, what: str) -> None:
    given, wanted = np.asarray(given), np.asarray(wanted)
    assert given.shape == wanted.shape, f"{what}: shape {given.shape}, a loop gives {wanted.shape}"
    assert given.dtype == wanted.dtype, f"{what}: {given.dtype}, a loop gives {wanted.dtype}"
    np.testing.assert_allclose(given, wanted, rtol=1e-9, atol=1e-12, err_msg=what)


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_equals_a_loop(name: str) -> None:
    op = OPS[name]
    for trial, examples in batches(op):
        for mask in masks(len(trial.args)):
            joined, rows = columns(trial, examples, mask)
            found = vmap(lambda *xs, t=trial: t(*map(tg.asarray, xs)), in_axes(mask))(*joined)
            close(found.data, np.stack([trial.value(*row) for row in rows]), f"{name}{trial.params} {mask}")


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_inside_and_through(name: str) -> None:
    op = OPS[name]
    for trial, examples in batches(op)[:4]:
        for mask, i in itertools.product(masks(len(trial.args)), trial.moving):
            joined, rows = columns(trial, examples, mask)

            def loss(*xs: Any, trial: Trial = trial) -> Any:
                return (trial(*map(tg.asarray, xs)) * trial.cotangent).sum()

            inside = vmap(grad(loss, i), in_axes(mask))(*joined)
            wanted = np.stack([grad(loss, i)(*row).data for row in rows])
            close(inside.data, wanted, f"gradient inside vmap of {name}{trial.params} {mask} by {i}")

            def total(*xs: Any, mask: tuple[bool, ...] = mask, loss: Any = loss) -> Any:
                return vmap(loss, in_axes(mask))(*xs).sum()

            through = grad(total, i)(*joined)
            what = f"gradient through vmap of {name}{trial.params} {mask} by {i}"
            close(through.data, wanted if mask[i] else wanted.sum(0), what)


@pytest.mark.parametrize("name", SMOOTH)
def test_jacobians_row_by_row(name: str) -> None:
    op = OPS[name]
    for trial in contract.trials(op):
        for i in trial.moving:
            x = trial.args[i]

            def one(v: Any, trial: Trial = trial, i: int = i) -> Any:
                return trial(*trial.args[:i], v, *trial.args[i + 1 :])

            y, pull = vjp(one, x)
            rows = [pull(e.reshape(y.shape))[0].data for e in np.eye(y.size)]
            wanted = np.reshape(rows, (*y.shape, *x.shape))
            close(jacrev(one)(x).data, wanted, f"jacrev of {name}{trial.params} by {i}")
            close(jacfwd(one)(x).data, wanted, f"jacfwd of {name}{trial.params} by {i}")


def test_axes_of_arguments_and_results() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    for axis in range(-3, 3):
        wanted = np.stack([np.cumsum(row, 0) for row in np.moveaxis(x, axis, 0)], axis)
        close(vmap(lambda v: tg.cumsum(v, 0), axis, axis)(x).data, wanted, f"axis {axis}")
    tree = {"a": x, "b": (x, 2.0)}
    axes = {"a": 1, "b": (2, None)}
    found = vmap(lambda t: {"s": t["a"].sum() * t["b"][1], "r": t["b"][0].sum()}, (axes,), {"s": 0, "r": 0})
    with pytest.raises(ArgumentError, match="different sizes"):
        found(tree)
    axes = {"a": 1, "b": (1, None)}
    found = vmap(lambda t: {"s": t["a"] * t["b"][1], "r": t["b"][0].sum()}, (axes,), {"s": -1, "r": 0})(tree)
    close(found["s"].data, np.moveaxis(x, 1, -1) * 2, "nested")
    close(found["r"].data, x.sum((0, 2)), "nested")


def test_nested_in_every_order() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4)), rng.normal(size=(2, 4))
    outer = vmap(vmap(lambda u, v: (u * v).sum(), (None, 0)), (0, None))(a, b)
    close(outer.data, a @ b.T, "outer product of rows")
    swapped = vmap(vmap(lambda u, v: (u * v).sum(), (0, None)), (None, 0))(a, b)
    close(swapped.data, b @ a.T, "the other way round")
    inner = vmap(lambda u: vmap(lambda v: tg.tanh(u * v) * u.sum())(tg.asarray(b)))(a)
    close(inner.data, np.tanh(a[:, None] * b) * a.sum(1)[:, None, None], "a closure over the outer example")


def test_an_inner_batch_that_depends_on_nothing_of_the_outer() -> None:
    found = vmap(lambda x: vmap(lambda v: v * 2)(tg.asarray([1.0, 2.0])))(np.zeros(3))
    close(found.data, np.full((3, 2), [2.0, 4.0], np.float32), "constant")


def network(w: Any, x: Any) -> Any:
    return (tg.tanh(x @ w["a"].mT + w["b"]) ** 2).sum()


def weights(rng: np.random.Generator) -> dict[str, Tensor]:
    return {"a": tg.asarray(rng.normal(size=(5, 4))), "b": tg.asarray(rng.normal(size=5))}


def test_gradients_for_each_sample() -> None:
    rng = np.random.default_rng(1)
    w, x = weights(rng), rng.normal(size=(6, 4))
    found = vmap(grad(network), (None, 0))(w, x)
    for key in w:
        close(found[key].data, np.stack([grad(network)(w, row)[key].data for row in x]), key)


def test_each_sample_through_layers_and_losses() -> None:
    tg.manual_seed(0)
    net = tg.nn.Sequential(tg.nn.Conv2d(1, 2, 3), tg.nn.ReLU(), tg.nn.MaxPool2d(2), tg.nn.Flatten(), tg.nn.Linear(8, 3))
    x = np.random.default_rng(2).normal(size=(5, 1, 6, 6)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 0])

    def loss(image: Any, label: Any) -> Any:
        return tg.nn.functional.cross_entropy(net(image[None]), label[None])

    losses, gradients = vmap(tg.func.value_and_grad(loss))(x, labels)
    for i in range(5):
        wanted = tg.func.value_and_grad(loss)(tg.asarray(x[i]), tg.asarray(labels[i]))
        np.testing.assert_allclose(losses.data[i], wanted[0].data, rtol=1e-5)
        np.testing.assert_allclose(gradients.data[i], wanted[1].data, rtol=1e-4, atol=1e-6)
    losses.sum().backward()
    ours = {name: p.grad.data.copy() for name, p in net.named_parameters()}
    net.zero_grad()
    tg.nn.functional.cross_entropy(net(tg.asarray(x)), labels, reduction="sum").backward()
    for name, p in net.named_parameters():
        np.testing.assert_allclose(ours[name], p.grad.data, rtol=1e-4, atol=1e-6)


def test_convolutions_never_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of each sample's own, and weights of each member of an ensemble, run as groups of channels."""
    rng = np.random.default_rng(3)
    x, w, b = rng.normal(size=(4, 2, 4, 5, 6)), rng.normal(size=(4, 6, 2, 3, 2)), rng.normal(size=(4, 6))

    def loss(x: Any, w: Any, b: Any) -> Any:
        return (tg.nn.functional.conv2d(x, w, b, stride=2, padding=1, groups=2) ** 2).sum()

    gradient = grad(loss, (0, 1, 2))
    rows = [gradient(*one) for one in zip(x, w, b, strict=True)]
    shared = [gradient(one, w[0], b[0]) for one in x]
    alone = grad(lambda x, w, b: (tg.nn.functional.conv2d(x[:, :1], w[:, :1], b) ** 2).sum(), (1, 2))
    members = [alone(x[0], *one) for one in zip(w, b, strict=True)]
    monkeypatch.delattr("tinygrad_nn.batched._one_by_one")
    for i, found in enumerate(vmap(alone, (None, 0, 0))(x[0], w, b)):
        close(found.data, np.stack([row[i].data for row in members]), f"members on the same images, argument {i + 1}")
    for i, found in enumerate(vmap(gradient)(x, w, b)):
        close(found.data, np.stack([row[i].data for row in rows]), f"an ensemble, argument {i}")
    for i, found in enumerate(vmap(gradient, (0, None, None))(x, w[0], b[0])):
        close(found.data, np.stack([row[i].data for row in shared]), f"each sample, argument {i}")


@pytest.mark.parametrize("transform", [jacrev, jacfwd, hessian])
def test_jacobians_inside(transform: Callable[..., Any]) -> None:
    rng = np.random.default_rng(3)
    x, c = rng.normal(size=(4, 3)), tg.asarray(rng.normal(size=3))

    def f(v: Any) -> Any:
        return tg.sin(v * c) * (v**2).sum()

    found = vmap(transform(f))(x)
    close(found.data, np.stack([transform(f)(row).data for row in x]), transform.__name__)


def test_products_inside() -> None:
    rng = np.random.default_rng(4)
    x, v = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))

    def f(u: Any) -> Any:
        return (tg.exp(u) * u.sum()).sum()

    close(
        vmap(lambda a, b: hvp(f, a, b))(x, v).data, np.stack([hvp(f, a, b).data for a, b in zip(x, v, strict=True)]), ""
    )
    pushed = vmap(lambda a, b: jvp(tg.cumsum, (a,), (b,))[1])(x, v)
    close(pushed.data, np.cumsum(v, 1), "jvp inside")
    shared = vmap(lambda b: jvp(tg.sin, (x[0],), (b,))[1])(v)
    close(shared.data, np.cos(x[0]) * v, "one point, many tangents")
    pulled = vmap(lambda b: vjp(tg.sin, x[0])[1](b)[0])(v)
    close(pulled.data, np.cos(x[0]) * v, "one point, many cotangents")


def test_gradient_of_a_jacobian_through_a_batch() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(4, 3))

    def penalty(v: Any) -> Any:
        return (vmap(jacrev(lambda u: tg.tanh(u) * u.sum()))(v) ** 2).sum()

    def alone(v: Any) -> Any:
        return (jacrev(lambda u: tg.tanh(u) * u.sum())(v) ** 2).sum()

    close(grad(penalty)(x).data, np.stack([grad(alone)(row).data for row in x]), "")


def test_masks_and_places_that_differ() -> None:
    rng = np.random.default_rng(6)
    x, places = rng.normal(size=(5, 4)), rng.integers(0, 4, (5, 2))
    close(vmap(lambda v: tg.where(v > 0, v, 0.1 * v))(x).data, np.where(x > 0, x, 0.1 * x), "where")
    close(vmap(lambda v: tg.where(v > 0, 1.0, -1.0))(x).data, np.where(x > 0, 1.0, -1.0), "where of numbers")
    close(vmap(lambda v, i: v[i])(x, places).data, np.take_along_axis(x, places, 1), "x[i]")
    close(vmap(lambda i: tg.asarray(x)[i])(places).data, x[places], "rows of one table")
    close(vmap(lambda v, i: v[i[0]])(x, places).data, x[np.arange(5), places[:, 0]], "a single place")
    close(vmap(lambda v, i: tg.take(v, i))(x, places).data, np.take_along_axis(x, places, 1), "take")
    cube = rng.normal(size=(5, 3, 4))
    close(
        vmap(lambda v, i: v[:, i])(cube, places).data,
        np.stack([c[:, i] for c, i in zip(cube, places, strict=True)]),
        "",
    )
    rest = rng.normal(size=(5, 3, 2, 4))
    wanted = np.stack([r[0, :, None, [1, 0]] for r in rest])
    close(vmap(lambda v: v[0, :, None, [1, 0]])(rest).data, wanted, "arrays that stand apart")


INDICES: dict[str, Callable[..., Any]] = {
    "m[i, j]": lambda m, i, j: m[i, j],
    "m[:, j]": lambda m, i, j: m[:, j],
    "m[..., j]": lambda m, i, j: m[..., j],
    "m[i[0], j[0]]": lambda m, i, j: m[i[0], j[0]],
    "m[i[0], 1:]": lambda m, i, j: m[i[0], 1:],
    "m[i, None, j]": lambda m, i, j: m[i, None, j],
    "m[i, 2]": lambda m, i, j: m[i, 2],
    "m[1, j]": lambda m, i, j: m[1, j],
    "m[i, [1, 0]]": lambda m, i, j: m[i, [1, 0]],
    "m[i[:, None], j]": lambda m, i, j: m[i[:, None], j],
    "m[None, i]": lambda m, i, j: m[None, i],
    "m[:, None, j]": lambda m, i, j: m[:, None, j],
    "m[None, i, :, None]": lambda m, i, j: m[None, i, :, None],
    "m[None][0, :, j]": lambda m, i, j: m[None][0, :, j],
    "m[None][[0, 0], :, j]": lambda m, i, j: m[None][[0, 0], :, j],
}


@pytest.mark.parametrize("name", INDICES)
def test_places_of_each_example(name: str) -> None:
    """With equal places among them, whose gradients add up."""
    f, rng = INDICES[name], np.random.default_rng(8)
    m, i, j = rng.normal(size=(4, 3, 5)), np.array([[0, 1], [2, 2], [1, 0], [0, 0]]), rng.integers(-5, 5, (4, 2))

    def loss(m: Any, i: Any, j: Any) -> Any:
        return (f(m, i, j) ** 3).sum()

    for mask in (
        (True, True, True),
        (True, True, False),
        (True, False, True),
        (False, True, True),
        (True, False, False),
    ):
        given = [a if moved else a[3] for a, moved in zip((m, i, j), mask, strict=True)]
        rows = [[a[k] if moved else a[3] for a, moved in zip((m, i, j), mask, strict=True)] for k in range(4)]
        value, curved = lambda m, i, j: f(tg.asarray(m), i, j), lambda m, i, j: hvp(_by(loss, i, j), m, m)
        for g in (value, grad(loss), jacfwd(f), jacrev(f), curved):
            wanted = np.stack([g(tg.asarray(m), tg.asarray(i), tg.asarray(j)).data for m, i, j in rows])
            close(vmap(g, in_axes(mask))(*given).data, wanted, f"{name} {mask}")


@pytest.mark.parametrize("name", [name for name in INDICES if "[None]" not in name])
@pytest.mark.parametrize("write", [tg.index_update, tg.index_add])
def test_writing_at_places_of_each_example(write: Callable[..., Any], name: str) -> None:
    read, rng = INDICES[name], np.random.default_rng(8)
    m, i, j = rng.normal(size=(4, 3, 5)), np.array([[0, 1], [2, 2], [1, 0], [0, 0]]), rng.integers(-5, 5, (4, 2))
    region = read(m[0], i[0], j[0])
    for shape in {region.shape, region.shape[-1:], ()}:
        value = rng.normal(size=(4, *shape))

        def f(m: Any, i: Any, j: Any, v: Any) -> Any:
            return write(m, read(_Index(), i, j), v)

        def slopes(m: Any, i: Any, j: Any, v: Any, f: Any = f) -> Any:
            first, second = grad(lambda m, v: (f(m, i, j, v) ** 3).sum(), (0, 1))(m, v)
            return tg.concat([first.reshape(-1), second.reshape(-1)])

        for mask in itertools.product((True, False), repeat=4):
            if not any(mask):
                continue
            given = [a if moved else a[3] for a, moved in zip((m, i, j, value), mask, strict=True)]
            rows = [
                [a[k] if moved else a[3] for a, moved in zip((m, i, j, value), mask, strict=True)] for k in range(4)
            ]
            for g in (f, slopes):
                wanted = np.stack([g(*map(tg.asarray, row)).data for row in rows])
                close(vmap(lambda *args, g=g: g(*map(tg.asarray, args)), in_axes(mask))(*given).data, wanted, f"{mask}")


class _Index:
    """Gives what it is indexed with."""

    def __getitem__(self, index: Any) -> Any:
        return index


def test_writing_under_a_mask_of_each_example() -> None:
    x = np.random.default_rng(8).normal(size=(4, 3, 2)).astype(np.float32)

    def f(v: Any, mask: Any, value: Any) -> Any:
        v = v * 1.0
        v[mask] = value
        return v

    masks: list[tuple[Any, Any]] = [
        (lambda v: v > 0, 2.0),
        (lambda v: v > 0, np.float64(2.0)),
        (lambda v: v[:, 0] > 0, np.array([1.0, 2.0])),
    ]
    for mask, value in masks:
        for g in (
            lambda v, m=mask, w=value: f(v, m(v), w),
            grad(lambda v, m=mask, w=value: (f(v, m(v), w) ** 2).sum()),
        ):
            close(vmap(g)(x).data, np.stack([g(tg.asarray(row)).data for row in x]), "")
    own = vmap(lambda v: f(v, v > 0, v[0, 0] * 2))(x)
    close(own.data, np.where(x > 0, 2 * x[:, :1, :1], x), "a value of each example's own")
    with pytest.raises(TinygradError, match="fraction"):
        vmap(lambda v: tg.index_update(v, v > 0, 0.5))(np.ones((2, 3), int))


def _by(loss: Callable[..., Any], *others: Any) -> Callable[[Any], Any]:
    return lambda m: loss(m, *others)


def test_writing_inside() -> None:
    x = np.arange(6.0).reshape(3, 2)

    def f(v: Any) -> Any:
        v = v * 1.0
        v[0] = 5.0
        v += 1.0
        v[1] = v[0] * v[1]
        return v

    close(vmap(f)(x).data, np.stack([np.array([6.0, 6.0 * (row[1] + 1)]) for row in x]), "")


def test_filling_inside() -> None:
    x = np.arange(6.0).reshape(3, 2)

    def f(v: Any) -> Any:
        y = tg.zeros_like(v)
        y[1] = v[0]
        y += tg.full_like(v, 2.0, dtype="float64")
        return y

    close(vmap(f)(x).data, np.stack([np.full(3, 2.0), x[:, 0] + 2.0], 1), "")
    close(vmap(jacfwd(f))(x).data, np.broadcast_to([[0.0, 0.0], [1.0, 0.0]], (3, 2, 2)), "")


def test_lists_and_axes_of_numpy() -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert vmap(lambda v: v * 2)([1.0, 2.0]).tolist() == [2.0, 4.0]
    assert vmap(lambda v, w: v * w[0], (0, None))(x, [2.0, 3.0]).tolist() == [[2.0, 4.0], [6.0, 8.0]]
    axis = np.int64(1)
    assert vmap(lambda v: v, axis, axis)(x).tolist() == x.tolist()


@pytest.mark.parametrize(
    "transform",
    [
        grad(lambda v: (tg.sin(v) ** 2).sum()),
        jacrev(tg.softmax),
        jacfwd(tg.softmax),
        hessian(lambda v: (v**3).sum()),
        jacfwd(jacrev(tg.sin)),
        lambda v: hvp(lambda v: (v**3).sum(), v, v),
        lambda v: vmap(grad(lambda s: s * s))(v),
    ],
)
def test_derivatives_of_an_empty_batch(transform: Callable[..., Any]) -> None:
    none = np.zeros((0, 3), np.float32)
    found, one = vmap(transform)(none), transform(none.sum(0))
    assert (found.shape, found.dtype) == ((0, *one.shape), one.dtype)
    assert grad(lambda x: vmap(transform)(x).sum())(none).shape == (0, 3)


def test_an_empty_batch() -> None:
    found = vmap(lambda v: (tg.tanh(v) * 2).sum(keepdims=True))(np.zeros((0, 4)))
    assert found.shape == (0, 1)
    assert vmap(lambda v: tg.matmul(v, v.mT))(np.zeros((0, 4, 2))).shape == (0, 4, 4)


def test_python_protocols_show_one_example() -> None:
    seen: list[Any] = []

    def f(v: Any) -> Any:
        seen.extend([v.shape, v.ndim, v.size, v.dtype, v.nbytes, len(v), repr(v), v.requires_grad])
        assert [row.shape for row in v] == [(2,)] * 3
        return v.detach()

    vmap(f)(np.zeros((4, 3, 2), np.float32))
    assert seen == [
        (3, 2),
        2,
        6,
        np.dtype("f4"),
        24,
        3,
        "tensor(one of a batch of 4, shape=(3, 2), dtype=float32)",
        False,
    ]


def test_arrays_and_creation_inside() -> None:
    x = np.arange(6.0).reshape(3, 2)
    close(vmap(lambda v: v * np.array([1.0, 2.0]) + tg.zeros_like(v))(x).data, x * [1.0, 2.0], "")
    close(vmap(lambda v: np.exp(v) + np.sum(v))(x).data, np.exp(x) + x.sum(1)[:, None], "NumPy's own functions")
    close(vmap(lambda v: tg.stack([v[0], 1.0, v[1]]))(x).data, np.stack([x[:, 0], np.ones(3), x[:, 1]], 1), "stack")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: vmap(lambda v: v if v.sum() > 0 else -v)(x), BatchError, "tg.where instead of if"),
        (lambda x: vmap(lambda v: float(v[0]) * v)(x), BatchError, "cannot be read"),
        (lambda x: vmap(lambda v: v.data)(x), BatchError, "cannot be read"),
        (lambda x: vmap(lambda v: tg.asarray(np.asarray(v)))(x), BatchError, "cannot be read"),
        (lambda x: vmap(lambda v: v[v > 0])(x), BatchError, "different shapes"),
        (lambda x: vmap(lambda v: v.sum().backward())(x), GraphError, "tg.func.grad"),
        (lambda x: vmap(lambda v: 1.0)(x), ArgumentError, "must return a Tensor"),
        (lambda x: vmap(lambda v: v, None)(x), ArgumentError, "no batch"),
        (lambda x: vmap(lambda: x)(), ArgumentError, "without arguments"),
        (lambda x: vmap(lambda v: v, 0, None)(x), ArgumentError, "differs between the examples"),
        (lambda x: vmap(lambda v: v, (0, 0))(x), ArgumentError, "in_axes (0, 0) does not fit"),
        (lambda x: vmap(lambda v: v["a"], ({"b": 0},))({"a": x}), ArgumentError, "in_axes has the keys"),
        (lambda x: vmap(lambda v: v, 5)(x), TinygradError, "axis 5"),
        (lambda x: vmap(lambda v: v, 0)(2.0), TinygradError, "axis 0"),
        (lambda x: vmap(lambda v: vmap(lambda u: _written(v, u))(x[0]))(x), BatchError, "inner vmap"),
        (lambda x: vmap(lambda v: v @ v)(np.zeros((2, 3, 4))), TinygradError, "do not align"),
        (lambda x: vmap(lambda v: v.copy().__deepcopy__({}))(x), BatchError, "cannot be read"),
        (lambda x: vmap(lambda v: v.__reduce__())(x), BatchError, "cannot be read"),
        (lambda x: vmap(lambda v: _add_to(v))(x), TinygradError, "in-place add"),
        (lambda x: vmap(lambda v: v[: v.argmax()])(x), BatchError, "no slice up to one"),
        (lambda x: vmap(lambda v: _written(tg.zeros(2), v[0]))(x), BatchError, "zeros_like(x)"),
        (lambda x: vmap(lambda v: v.detach().requires_grad_())(x), GraphError, "tg.func.grad"),
        (lambda x: vmap(_slope_by_a_shared_tensor)(x), GraphError, "tg.func.grad"),
        (lambda x: vmap(lambda v: v, 0, 2)(x[0]), TinygradError, "out_axes: axis 2"),
        (
            lambda x: vmap(lambda v: F.cross_entropy(x, LABELS[0, :2] % 2, v))(x),
            ArgumentError,
            "weight is the same for all",
        ),
    ],
)
def test_errors(call: Callable[[Any], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call(np.array([[1.0, -2.0], [3.0, 4.0]]))
    assert words in str(caught.value)


def _written(v: Any, u: Any) -> Any:
    v[0] = u
    return v


def _slope_by_a_shared_tensor(v: Any) -> Any:
    w = tg.ones(2, requires_grad=True)
    return tg.autograd.grad((w * v).sum(), w)[0]


def _add_to(v: Any) -> Any:
    v += tg.ones((3, 2))
    return v


def test_a_tensor_that_escapes_is_refused() -> None:
    kept: list[Any] = []
    x = np.ones((2, 3))
    vmap(lambda v: kept.append(v) or v)(x)
    with pytest.raises(BatchError):
        kept[0].numpy()
    uses: list[Callable[[], Any]] = [
        lambda: kept[0] + 1,
        lambda: vmap(lambda v: v * kept[0])(x),
        lambda: vmap(lambda v: vmap(lambda u: u + kept[0])(tg.asarray(x)) + v[0])(x),
        lambda: grad(lambda v: (v * kept[0]).sum())(np.ones(3)),
        lambda: vmap(grad(lambda v: (v * kept[0]).sum()))(x),
    ]
    for use in uses:
        with pytest.raises(BatchError, match="has left its vmap"):
            use()
    with pytest.raises(ArgumentError, match="out_axes is None"):
        vmap(lambda v: kept[0], out_axes=None)(x)


def test_hooks_see_one_example() -> None:
    x = np.random.default_rng(9).normal(size=(4, 3))
    seen: list[tuple[int, ...]] = []

    def f(v: Any) -> Any:
        doubled = 2 * v
        doubled.register_hook(lambda g: seen.append(g.shape))
        doubled.register_hook(lambda g: g * g.sum() * v)
        return (doubled**2).sum()

    wanted = np.stack([grad(f)(row).data for row in x])
    close(vmap(grad(f))(x).data, wanted, "inside")
    close(grad(lambda x: vmap(f)(x).sum())(x).data, wanted, "after vmap has ended")
    both = vmap(lambda v: vmap(grad(f))(tg.stack([v, v])))(x)
    close(both.data, np.stack([wanted, wanted], 1), "nested")
    rows = vmap(jacrev(lambda v: tg.stack([f(v), f(3 * v)])))(x)
    close(rows.data, np.stack([[grad(f)(row).data, grad(lambda v: f(3 * v))(row).data] for row in x]), "a Jacobian")
    assert set(seen) == {(3,)}


F = tg.nn.functional
LABELS = np.array([[0, 2, 1], [2, 2, 0], [1, 0, 1]])
COMPOSED: dict[str, Callable[..., Any]] = {
    "one_hot": lambda x, y: F.one_hot(y, 3) * x,
    "embedding": lambda x, y: F.embedding(y, tg.asarray(np.eye(3))) + x,
    "embedding of its own table": lambda x, y: F.embedding(y, x),
    "binary_cross_entropy": lambda x, y: F.binary_cross_entropy(x, F.one_hot(y, 3).astype("float64")),
    "gelu": lambda x, y: F.gelu(x) + F.elu(x) + F.hardtanh(x, 0.3, 0.6),
    "huber_loss": lambda x, y: F.huber_loss(x, 0.5 * x.T),
    "mse_loss": lambda x, y: F.mse_loss(x, x.T),
    "pad": lambda x, y: tg.pad(x, 1, mode="reflect"),
    "repeat": lambda x, y: tg.repeat(tg.tile(x, 2), 2, 0),
    "einsum": lambda x, y: tg.einsum("ij,kj->ik", x, x),
    "trace": lambda x, y: tg.trace(x) * tg.diagonal(x),
    "argmax": lambda x, y: x.argmax() + x.argmax(0) + y,
    "remainder": lambda x, y: x % 0.3 + x**x - 1 / x,
    "concatenate": lambda x, y: np.concatenate([x, x]),
    "smoothing": lambda x, y: F.cross_entropy(x, y, label_smoothing=0.1),
    "smoothing, weights": lambda x, y: F.cross_entropy(x, y, np.array([1.0, 2.0, 3.0]), label_smoothing=0.1),
    "ignored": lambda x, y: F.cross_entropy(x, y, ignore_index=1),
    "weights": lambda x, y: F.cross_entropy(x, y, np.array([1.0, 2.0, 3.0]), reduction="sum"),
    "one sample": lambda x, y: F.cross_entropy(x[0], y[0]),
    "probabilities": lambda x, y: F.cross_entropy(x, tg.softmax(x)),
    "embedding of its own table, padding": lambda x, y: F.embedding(y, x, padding_idx=0) ** 2,
    "embedding of a row": lambda x, y: F.embedding(y[0], x) * F.embedding(1, x),
    "all ignored": lambda x, y: tg.stack([F.cross_entropy(x[:1], y[:1], ignore_index=2), x[0, 0]]),
    "ignored, weights": lambda x, y: F.cross_entropy(x, y, np.array([1.0, 0.0, 3.0]), ignore_index=2),
    "ignored, one sample": lambda x, y: F.cross_entropy(x[0], y[0], ignore_index=1),
    "ignored, summed": lambda x, y: F.nll_loss(x, y, np.array([1.0, 2.0, 3.0]), ignore_index=2, reduction="sum"),
    "ignored, in two axes": lambda x, y: F.cross_entropy(x[:1, :, None], y[:1, None], ignore_index=2),
    "sort": lambda x, y: tg.sort(x, axis=0) * x.std(),
}


@pytest.mark.parametrize("name", sorted(COMPOSED))
def test_what_is_composed_of_operations(name: str) -> None:
    f = COMPOSED[name]
    x = np.random.default_rng(7).uniform(0.1, 0.9, (3, 3, 3))

    def slope(x: Any, y: Any) -> Any:
        return grad(lambda x: (f(x, y) ** 2).sum())(x)

    def curve(x: Any, y: Any) -> Any:
        return hvp(lambda x: (f(x, y) ** 2).sum(), x, x)

    def rows(x: Any, y: Any) -> Any:
        return jacrev(lambda x: f(x, y))(x)

    for g in (f, *((slope, curve, rows) if f(*map(tg.asarray, (x[0], LABELS[0]))).dtype.kind == "f" else ())):
        wanted = [g(tg.asarray(row), tg.asarray(label)) for row, label in zip(x, LABELS, strict=True)]
        close(vmap(g)(x, LABELS).data, np.stack([w.data for w in wanted]), name)
