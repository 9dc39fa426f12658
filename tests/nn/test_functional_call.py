"""A module as a function of its parameters."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, ShapeError
from tinygrad_nn.func import functional_call


class Pair(NamedTuple):
    first: Any
    second: Any


class Everywhere(tg.nn.Module):
    """Parameters in every kind of holder, one of them shared, and a buffer."""

    def __init__(self) -> None:
        self.a = tg.nn.Parameter(1.0)
        self.listed = [tg.nn.Parameter(2.0), {"deep": tg.nn.Parameter(3.0)}]
        self.fixed = (tg.nn.Parameter(4.0), (tg.nn.Parameter(5.0),), [tg.nn.Parameter(6.0)])
        self.pair = Pair(tg.nn.Parameter(7.0), self.a)
        self.again = self.a
        self.register_buffer("scale", tg.tensor(10.0))
        self.by_closure = lambda: self.a

    def forward(self) -> Any:
        values = [self.a, self.listed[0], self.listed[1]["deep"], self.fixed[0], self.fixed[1][0], self.fixed[2][0]]
        return tg.stack([*values, self.pair.first, self.pair.second, self.again, self.scale, self.by_closure()])


def test_every_holder_every_name() -> None:
    net = Everywhere()
    before = [id(t) for t in (*net.parameters(), *net.buffers())]
    names = [name for name, _ in (*net.named_parameters(), *net.named_buffers())]
    given = {name: tg.tensor(100.0 + i) for i, name in enumerate(names)}
    found = dict(zip(names, (100.0 + i for i in range(len(names))), strict=True))
    out = functional_call(net, given).tolist()
    a = found["a"]
    wanted = [a, *(found[n] for n in ("listed.0", "listed.1.deep", "fixed.0", "fixed.1.0", "fixed.2.0", "pair.0"))]
    assert out == [*wanted, a, a, found["scale"], a]
    assert isinstance(net.pair, Pair)
    assert [id(t) for t in (*net.parameters(), *net.buffers())] == before
    assert net().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1.0, 1.0, 10.0, 1.0]


def test_what_is_not_named_stays() -> None:
    net = Everywhere()
    assert functional_call(net, {"fixed.0": 40.0}).tolist()[:5] == [1.0, 2.0, 3.0, 40.0, 5.0]
    assert functional_call(net, {}).tolist() == net().tolist()


def test_a_shared_parameter_goes_by_any_of_its_names() -> None:
    net = Everywhere()
    for name in ("a", "again", "pair.1"):
        assert functional_call(net, {name: 9.0}).tolist()[7:9] == [9.0, 9.0]
    one = tg.tensor(9.0)
    assert functional_call(net, {"a": one, "again": one}).tolist()[0] == 9.0
    with pytest.raises(ArgumentError, match="again is shared under several names"):
        functional_call(net, {"a": tg.tensor(1.0), "again": tg.tensor(2.0)})


def test_restored_after_an_error() -> None:
    net = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.Linear(3, 1))
    before = [id(p) for p in net.parameters()]
    with pytest.raises(ShapeError):
        functional_call(net, {"0.bias": tg.zeros(3)}, tg.ones((4, 5)))
    assert [id(p) for p in net.parameters()] == before


def test_gradients_hessians_and_batches_by_parameters() -> None:
    """Of a linear net and the mean squared error, whose derivatives are known: H = 2/n Xᵀ X, with a 1 for the bias."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=(20, 1))
    net = tg.nn.Linear(2, 1).double()
    params = {name: p.detach() for name, p in net.named_parameters()}

    def loss(p: Any, x: Any, y: Any) -> Any:
        return ((functional_call(net, p, x) - y) ** 2).mean()

    residual = x @ net.weight.data.T + net.bias.data - y
    found = tg.func.grad(loss)(params, x, y)
    assert not found["weight"].requires_grad
    np.testing.assert_allclose(found["weight"].data, 2 / 20 * residual.T @ x, rtol=1e-12)
    net.zero_grad()
    loss(dict(net.named_parameters()), tg.Tensor(x), y).backward()
    np.testing.assert_allclose(net.weight.grad.data, found["weight"].data, rtol=1e-12)

    h = tg.func.hessian(loss)(params, x, y)
    np.testing.assert_allclose(h["weight"]["weight"].data.reshape(2, 2), 2 / 20 * x.T @ x, rtol=1e-12)
    np.testing.assert_allclose(h["bias"]["bias"].data, [[2.0]], rtol=1e-12)
    np.testing.assert_allclose(h["weight"]["bias"].data.ravel(), 2 * x.mean(axis=0), rtol=1e-12)

    each = tg.func.vmap(tg.func.grad(loss), in_axes=(None, 0, 0))(params, x, y)
    np.testing.assert_allclose(each["weight"].data[:, 0], 2 * residual * x, rtol=1e-12)

    many = {name: tg.stack([p, 2 * p]) for name, p in params.items()}
    outputs = tg.func.vmap(lambda p: functional_call(net, p, x))(many)
    np.testing.assert_allclose(outputs.data[1], 2 * outputs.data[0], rtol=1e-12)


def test_threads_take_turns() -> None:
    net = tg.nn.Linear(3, 3)
    x = tg.ones((1, 3))
    wrong: list[float] = []

    def work(k: int) -> None:
        params = {"weight": tg.full((3, 3), float(k)), "bias": tg.zeros(3)}
        for _ in range(100):
            if functional_call(net, params, x).tolist() != [[3.0 * k] * 3]:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda net: functional_call(net, {"wieght": 1.0}), ArgumentError, "'wieght'; it has weight, bias"),
        (
            lambda net: functional_call(net, {"bias": np.ones(2)}),
            ArgumentError,
            r"bias has shape \(1,\), given float64\(2",
        ),
        (lambda net: functional_call(net, [1.0]), TypeError, "params is a dict"),
        (lambda net: functional_call(net.forward, {}), TypeError, "takes a Module first"),
        (lambda net: functional_call(tg.nn.ReLU(), {"x": 1.0}), ArgumentError, "it has none"),
    ],
)
def test_errors(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call(tg.nn.Linear(2, 1))
