"""Threads: independent programs that run at once give, to the bit, what each gives alone."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import nn, optim
from tinygrad_nn.errors import GraphError

THREADS = 8
NOT_RECORDED, RECORDED = tg.no_grad(), tg.enable_grad()  # objects that all threads enter


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(program: Callable[[int], Any], count: int = THREADS) -> list[Any]:
    """`program(0)`, `program(1)`, ..., each in a thread, started together."""
    found: dict[int, Any] = {}
    errors: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(i: int) -> None:
        try:
            gate.wait()
            found[i] = program(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return [found[i] for i in range(count)]


class Net(nn.Module):
    def __init__(self, rng: np.random.Generator) -> None:
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
        self.out = nn.Linear(6, 3)
        for p in self.parameters():
            p.data[...] = rng.normal(0, 0.5, p.shape)
        self.generator = rng

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        for layer in self.layers:
            x = tg.autograd.checkpoint(lambda a, layer=layer: tg.tanh(layer(a)) + a, x)
        x = nn.functional.dropout(x, 0.2, self.training, generator=self.generator)
        return self.out(x)


def train(i: int) -> tuple[bytes, ...]:
    """Training with modes toggled, hooks, anomalies looked for, checkpoints, transforms and functions of one's own."""

    class Double(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> Any:
            return g * 2 * ctx.saved_tensors[0]

    rng = np.random.default_rng(i)
    net = Net(rng)
    seen: list[float] = []
    net.layers[i % 4].register_forward_hook(lambda m, a, y: y * 1.5)
    net.out.register_full_backward_hook(lambda m, gi, go: (gi[0] * 0.5,))
    sgd = optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    x, t = tg.tensor(rng.normal(size=(5, 6)), "float32"), tg.tensor(rng.integers(0, 3, 5))
    for step in range(8 + i % 3):
        y = net(x)
        y.register_hook(lambda g: seen.append(float(g.sum())))
        loss = nn.functional.cross_entropy(y, t) + Double.apply(net.out.bias).sum() * 0.1
        with NOT_RECORDED:
            assert not (net.out(x[:1]) * 2).requires_grad
            with RECORDED:
                assert (net.out.weight * 2).requires_grad
            seen.append(float(net.out(x).sum()))
        assert tg.is_grad_enabled()
        sgd.zero_grad()
        if step % 3 == i % 3:
            with tg.autograd.detect_anomaly():
                (loss * 1.0).backward()
        else:
            loss.backward()
        sgd.step()
        net.eval() if step % 2 else net.train()
    hessian = tg.func.hessian(lambda w: tg.tanh(x @ w).sum())(net.out.weight.data[0])
    return *(p.data.tobytes() for p in net.parameters()), hessian.data.tobytes(), np.array(seen).tobytes()


def test_training_at_once_is_training_alone() -> None:
    alone = [train(i) for i in range(THREADS)]
    for _ in range(2):
        assert at_once(train) == alone


def test_modes_of_one_thread_are_not_those_of_another() -> None:
    def program(i: int) -> list[bool]:
        seen = []
        for k in range(200):
            with NOT_RECORDED if (i + k) % 2 else RECORDED:
                seen.append(tg.is_grad_enabled())
                with RECORDED if (i + k) % 2 else NOT_RECORDED:
                    seen.append(tg.is_grad_enabled())
                seen.append(tg.is_grad_enabled())
            seen.append(tg.is_grad_enabled())
        return seen

    assert at_once(program) == [program(i) for i in range(THREADS)]


def test_a_write_is_noticed_while_others_write() -> None:
    """The number of the last write never goes back, whoever writes."""

    def program(i: int) -> int:
        refused = 0
        x, w = tg.ones(3), tg.ones(3, requires_grad=True)
        for _ in range(300):
            y = (x * w).sum()
            x[0] = 2.0
            try:
                y.backward()
            except GraphError:
                refused += 1
        return refused

    assert at_once(program) == [300] * THREADS


def test_one_set_of_parameters_and_gradients_of_each_thread() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    parameters = list(net.parameters())
    x = np.random.default_rng(0).normal(size=(THREADS, 10, 4)).astype(np.float32)

    def program(i: int) -> list[list[Any]]:
        found = []
        for _ in range(20):
            grads = tg.autograd.grad(tg.autograd.checkpoint(net, tg.tensor(x[i])).square().sum(), parameters)
            found.append([g.tolist() for g in grads if g is not None])
        return found

    assert at_once(program) == [program(i) for i in range(THREADS)]


def test_one_checkpointed_graph_walked_by_all() -> None:
    x = tg.tensor(np.linspace(0, 1, 50), requires_grad=True)
    y = x
    for _ in range(6):
        y = tg.autograd.checkpoint(lambda a: tg.autograd.checkpoint(tg.sin, a * 2) * tg.exp(a), y)
    total = y.sum()
    wanted = tg.autograd.grad(total, x, retain_graph=True)[0]
    assert wanted is not None

    def program(i: int) -> list[bytes]:
        grads = [tg.autograd.grad(total, x, retain_graph=True)[0] for _ in range(10)]
        return [g.data.tobytes() for g in grads if g is not None]

    assert at_once(program) == [[wanted.data.tobytes()] * 10] * THREADS


def test_checkpoints_with_random_numbers_do_not_disturb_other_threads() -> None:
    """A part that runs again draws what it drew, from a generator that only its thread sees."""
    tg.manual_seed(0)
    parts = []
    for _ in range(THREADS):
        x = tg.ones(100, requires_grad=True)
        parts.append((x, tg.autograd.checkpoint(lambda a: nn.functional.dropout(a, 0.5).exp(), x)))
    kept = [y.detach().numpy() for _, y in parts]
    before = tg.random.default_generator().bit_generator.state

    def program(i: int) -> bool:
        x, y = parts[i]
        for _ in range(10):
            (g,) = tg.autograd.grad(y.sum(), x, retain_graph=True)
            assert g is not None
            if not np.array_equal(g.data != 0, kept[i] != 1):
                return False
        return True

    assert all(at_once(program))
    assert tg.random.default_generator().bit_generator.state == before


def test_a_new_thread_begins_with_the_usual_modes_and_a_copied_context_with_its_own() -> None:
    with tg.no_grad():
        assert at_once(lambda i: tg.is_grad_enabled(), 2) == [True, True]
        context = contextvars.copy_context()
    assert context.run(tg.is_grad_enabled) is False
