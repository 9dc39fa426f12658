"""Hooks of modules: order, replacing, handles, copies, and the same calls as in PyTorch."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError, GraphError


class Two(nn.Module):
    """Two arguments, a keyword, two results."""

    def __init__(self) -> None:
        self.w = nn.Parameter([1.0, 2.0])

    def forward(self, a: Any, b: Any, *, scale: float = 1.0) -> Any:
        return a * b * self.w * scale, a + b


def leaf(*values: float) -> tg.Tensor:
    return tg.tensor(values, dtype="float32", requires_grad=True)


def tenfold(module: nn.Module, args: Any) -> Any:
    return 10 * args[0]


# -- forward -----------------------------------------------------------------------------------------------------------


def test_order_and_replacing() -> None:
    net, calls = nn.Identity(), []

    def note(name: str, change: Any = None) -> Any:
        def hook(module: nn.Module, args: Any, *output: Any) -> Any:
            assert module is net
            calls.append((name, args[0].item(), *(y.item() for y in output)))
            return change

        return hook

    net.register_forward_pre_hook(note("pre a", tg.tensor(2.0)))
    net.register_forward_pre_hook(note("pre b", (tg.tensor(3.0),)))
    net.register_forward_pre_hook(note("pre first"), prepend=True)
    net.register_forward_hook(note("post a", tg.tensor(4.0)))
    net.register_forward_hook(note("post first"), prepend=True)
    net.register_forward_hook(note("post b"))
    assert net(tg.tensor(1.0)).item() == 4.0
    assert calls == [
        ("pre first", 1.0),
        ("pre a", 1.0),
        ("pre b", 2.0),
        ("post first", 3.0, 3.0),
        ("post a", 3.0, 3.0),
        ("post b", 3.0, 4.0),
    ]


def test_keywords() -> None:
    net = Two()
    net.register_forward_pre_hook(lambda m, args, kw: (args, {"scale": kw["scale"] * 2}), with_kwargs=True)
    seen: list[Any] = []
    net.register_forward_hook(lambda m, args, kw, y: seen.append((len(args), kw, y[0].tolist())), with_kwargs=True)
    net(tg.ones(2), tg.ones(2), scale=5.0)
    assert seen == [(2, {"scale": 10.0}, [10.0, 20.0])]
    net.register_forward_pre_hook(lambda m, args, kw: args, with_kwargs=True)
    with pytest.raises(ArgumentError, match=r"forward pre-hook of Two: with_kwargs means to return None or \(args"):
        net(tg.ones(2), scale=1.0)


def test_handles() -> None:
    net = nn.Identity()
    with net.register_forward_hook(lambda m, a, y: y * 2):
        assert net(tg.tensor(1.0)).item() == 2
    assert net(tg.tensor(1.0)).item() == 1
    once = net.register_forward_pre_hook(lambda m, a: once.remove())
    assert [net(tg.tensor(1.0)).item() for _ in range(2)] == [1, 1]
    once.remove()


# -- backward ----------------------------------------------------------------------------------------------------------


def test_gradients_that_enter_and_leave() -> None:
    net, seen = Two(), []
    net.register_full_backward_pre_hook(lambda m, g: seen.append(["pre", *(t.tolist() for t in g)]))
    net.register_full_backward_hook(
        lambda m, gi, go: seen.append(["post", *(t if t is None else t.tolist() for t in (*gi, *go))])
    )
    a, b = leaf(1, 2), tg.tensor([3.0, 4.0])
    y, z = net(a, b)
    (y * 2 + z).sum().backward()
    assert seen == [["pre", [2, 2], [1, 1]], ["post", [7, 17], None, [2, 2], [1, 1]]]
    assert a.grad is not None and a.grad.tolist() == [7, 17]


def test_gradients_replaced() -> None:
    net = Two()
    net.register_full_backward_pre_hook(lambda m, g: (g[0] * 10, g[1]))
    net.register_full_backward_hook(lambda m, gi, go: (gi[0] + 1, None))
    net.register_full_backward_hook(lambda m, gi, go: (gi[0] * 100, gi[1]))
    a, b = leaf(1, 2), leaf(3, 4)
    net(a, b)[0].sum().backward()
    assert a.grad is not None and net.w.grad is not None and b.grad is not None
    assert net.w.grad.tolist() == [30, 80]
    assert a.grad.tolist() == [3100, 8100]
    assert b.grad.tolist() == [0, 0]


def test_no_argument_requires_a_gradient() -> None:
    net, seen = nn.Linear(2, 1), []
    net.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].shape)))
    net(tg.ones((3, 2))).sum().backward()
    assert seen == [((None,), (3, 1))]
    seen.clear()
    with tg.no_grad():
        net(tg.ones((3, 2)))
    assert seen == []


def test_a_backward_hook_with_the_wrong_number_is_told() -> None:
    for register, name in (
        ("register_full_backward_hook", "full backward hook"),
        ("register_full_backward_pre_hook", "pre-hook"),
    ):
        net = Two()
        getattr(net, register)(lambda m, *g: (None, None, None))
        with pytest.raises(ArgumentError, match=f"{name} of Two: returned 3 gradients in place of 2"):
            net(leaf(1, 2), leaf(1, 2))[0].sum().backward()


def test_writing_into_what_a_backward_hook_watches_is_refused() -> None:
    net = nn.Tanh()
    net.register_full_backward_hook(lambda m, gi, go: None)
    y = net(leaf(1, 2) * 1.0)
    with pytest.raises(GraphError, match="in-place add: .* shares memory with .* through HookedResults"):
        y += 1.0


def test_second_derivatives_pass_through_backward_hooks() -> None:
    net = nn.Tanh()
    x = leaf(0.3, -0.7)
    (plain,) = tg.autograd.grad(net(x).sum(), x, create_graph=True)
    wanted = tg.autograd.grad(plain.sum(), x)[0]  # type: ignore[union-attr]
    net.register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,))
    (twice,) = tg.autograd.grad(net(x).sum(), x, create_graph=True)
    found = tg.autograd.grad(twice.sum(), x)[0]  # type: ignore[union-attr]
    assert wanted is not None and found is not None
    np.testing.assert_allclose(found.data, 2 * wanted.data, rtol=1e-6)


# -- what hooks leave alone --------------------------------------------------------------------------------------------


def test_state_copies_and_pickles() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Identity())
    names, text = list(net.state_dict()), repr(net)
    handle = net[1].register_forward_pre_hook(tenfold)
    assert (list(net.state_dict()), repr(net)) == (names, text)
    assert len(list(net.modules())) == 3
    x = tg.ones((1, 2))
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin(x).tolist() == net(x).tolist()
        wanted = net(x).tolist()
        twin[1].register_forward_hook(lambda m, a, y: y * 0)
        assert net(x).tolist() == wanted  # the copy's hooks are its own
    kept = copy.deepcopy(net)
    handle.remove()
    np.testing.assert_allclose(kept(x).data, 10 * net(x).data, rtol=1e-6)


def test_a_module_as_a_hook_is_no_part_of_the_network() -> None:
    net, other = nn.Identity(), nn.Linear(2, 2)
    net.register_forward_hook(other)
    assert list(net.parameters()) == []


@pytest.mark.parametrize("kind", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_no_cycle_keeps_a_graph(kind: str) -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(1, 2)
        gone = weakref.ref(x.data)
        net = Two()
        getattr(net, kind)(lambda m, *g: None)
        net(x, x)[0].sum().backward()
        y = net(x, x)
        tg.autograd.grad(y[0].sum(), x, create_graph=True)
        del x, y
        assert gone() is None
    finally:
        gc.enable()


# -- PyTorch -----------------------------------------------------------------------------------------------------------


def test_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch")

    def run(library: Any, namespace: Any, tensor: Any) -> list[Any]:
        class Part(namespace.Module):  # type: ignore[misc]
            def forward(self, a: Any, b: Any = None, *, times: float = 1.0) -> Any:
                return (a * b * times, a) if b is not None else a * a * times

        class Net(namespace.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.one, self.two = Part(), Part()

            def forward(self, a: Any, b: Any) -> Any:
                p, q = self.one(a, b, times=3.0)
                return self.two(p + q, times=0.5)

        def show(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(show, value))
            return value if value is None or isinstance(value, float | dict) else value.tolist()

        log: list[Any] = []
        net = Net()
        for name in ("", "one", "two"):
            part = getattr(net, name) if name else net
            part.register_forward_pre_hook(lambda m, a, name=name: log.append((name, "pre", show(a))))
            part.register_forward_pre_hook(
                lambda m, a, k, name=name: log.append((name, "first", show(a), k)), prepend=True, with_kwargs=True
            )
            part.register_forward_hook(lambda m, a, y, name=name: log.append((name, "post", show(a), show(y))))
            part.register_full_backward_pre_hook(lambda m, g, name=name: log.append((name, "grad out", show(g))))
            part.register_full_backward_hook(
                lambda m, gi, go, name=name: log.append((name, "grad in", show(gi), show(go)))
            )
        net.one.register_forward_hook(lambda m, a, y: (y[0] * 2, y[1]))
        net.one.register_full_backward_pre_hook(lambda m, g: (g[0] * 3, g[1]), prepend=True)
        net.two.register_full_backward_hook(lambda m, gi, go: (gi[0] * 5,))
        handle = net.two.register_forward_hook(lambda m, a, y: y * 0)
        handle.remove()
        a, b = tensor([1.0, 2.0]), tensor([3.0, -1.0])
        for _ in range(2):
            net(a, b).sum().backward()
        log.append((show(a.grad), show(b.grad)))
        return log

    ours = run(tg, nn, lambda v: tg.tensor(v, requires_grad=True))
    theirs = run(torch, torch.nn, lambda v: torch.tensor(v, requires_grad=True))
    assert len(ours) == 31
    assert ours == theirs
