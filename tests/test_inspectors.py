"""Inspectors: modes that see every recorded operation and every step of a walk, and note the user's lines."""

from __future__ import annotations

import contextvars
import gc
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import modes
from tinygrad_nn.autograd import detect_anomaly, record_lines
from tinygrad_nn.errors import GraphError, ShapeError
from tinygrad_nn.modes import Inspector


class Log(Inspector):
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.steps: list[tuple[str, int, float, float]] = []

    def recorded(self, op: Any, args: tuple[Any, ...], params: dict[str, Any], result: Any) -> None:
        assert result._node.op is op
        self.names.append(op.name)

    def pulled(self, node: Any, i: int, g: Any, pulled: Any) -> None:
        self.steps.append((node.op.name, i, float(g), float(pulled)))

    def pushed(self, node: Any, i: int, t: Any, pushed: Any) -> None:
        self.steps.append((node.op.name, i, float(t), float(pushed)))


def here(offset: int = 0) -> str:
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno + offset}"


def leaf(value: float = 2.0) -> tg.Tensor:
    return tg.tensor(value, requires_grad=True)


def test_sees_every_recorded_operation_once() -> None:
    x, log = leaf(), Log()
    with log as entered:
        assert entered is log
        assert tg.is_grad_enabled() is True
        y = tg.tanh(x) * 3 + tg.reshape(x, (1,)).sum()
        tg.tanh(tg.tensor(1.0))  # nothing is recorded here
        with tg.no_grad():
            assert tg.is_grad_enabled() is False
            tg.exp(x)
            with tg.enable_grad():
                tg.log(x)
    tg.sin(x)
    assert log.names == ["tanh", "multiply", "reshape", "sum", "add", "log"]
    y.backward()
    assert log.steps == [], "the walk ran outside"


def test_sees_the_steps_of_both_walks() -> None:
    log = Log()
    with log:
        x = leaf(3.0)
        (x * x * 2.0).backward()
    assert log.steps == [("multiply", 0, 1.0, 2.0), ("multiply", 0, 2.0, 6.0), ("multiply", 1, 2.0, 6.0)]
    log.steps.clear()
    with log:
        tg.func.jvp(lambda x: x * x, (3.0,), (1.0,))
    assert log.steps == [("multiply", 0, 1.0, 3.0), ("multiply", 1, 1.0, 3.0)]


def test_walks_under_no_grad_are_seen() -> None:
    x, log = leaf(), Log()
    y = x * 4.0
    with log, tg.no_grad():
        y.backward()
    assert log.steps == [("multiply", 0, 1.0, 4.0)]


def test_inspectors_nest_and_leave_as_they_came() -> None:
    outer, inner, x = Log(), Log(), leaf()
    with tg.no_grad():
        with outer:
            assert not tg.is_grad_enabled(), "looking on does not switch recording on"
            with tg.enable_grad(), inner:
                tg.exp(x)
            tg.sin(x)
        with tg.enable_grad():
            tg.log(x)
    assert outer.names == inner.names == ["exp"]
    with outer, outer:
        tg.tanh(x)
    assert outer.names == ["exp", "tanh", "tanh"], "entered twice, it sees twice"
    assert modes.recording() is True


def test_what_an_inspector_raises_reaches_the_user_and_leaves_no_trace() -> None:
    class Refuse(Inspector):
        def recorded(self, *_: Any) -> None:
            raise RuntimeError("no")

    x = leaf()
    with pytest.raises(RuntimeError, match="no"), Refuse():
        x * 2
    assert modes.recording() is True
    assert (x * 2).item() == 4


def test_as_decorator_also_of_generators() -> None:
    log, x = Log(), leaf()

    @log
    def once() -> tg.Tensor:
        return tg.exp(x)

    @log
    def steps() -> Any:
        yield tg.sin(x)
        yield tg.cos(x)

    once()
    for _ in steps():
        tg.tanh(x)  # the consumer is not looked at
    assert log.names == ["exp", "sin", "cos"]


def test_left_in_another_context_than_entered() -> None:
    mode = tg.no_grad()
    contextvars.copy_context().run(mode.__enter__)
    mode.__exit__()
    assert tg.is_grad_enabled()


def test_belongs_to_a_thread() -> None:
    log, x = Log(), leaf()
    with log:
        thread = threading.Thread(target=lambda: tg.exp(x))
        thread.start()
        thread.join()
    assert log.names == []


def test_one_inspector_in_eight_threads() -> None:
    log = Log()
    ready = threading.Barrier(8)

    def work() -> None:
        ready.wait()
        x = leaf()
        for _ in range(50):
            with log:
                (x * x).backward()
        assert modes.recording() is True

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(log.names) == 400
    assert len(log.steps) == 800


def test_functions_and_traces_are_seen() -> None:
    class Twice(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> tg.Tensor:
            return g * 2

    log, x = Log(), leaf()
    with log:
        Twice.apply(x)
        assert log.names == ["Twice"]
        tg.func.grad(lambda a: a * x)(x)  # a stands for x, linked to it
    assert log.names == ["Twice", "positive", "multiply", "multiply"][: len(log.names)]
    assert log.names[:3] == ["Twice", "positive", "multiply"]


@pytest.mark.parametrize("mode", [record_lines, detect_anomaly, tg.autograd.kinks], ids=lambda mode: mode.__name__)
@pytest.mark.parametrize("order", [1, 2])
def test_nothing_keeps_a_graph_that_was_looked_at(mode: type[Inspector], order: int) -> None:
    values = np.ones(3)
    kept = weakref.ref(values)
    gc.disable()
    try:
        with mode():
            x = tg.asarray(values)
            x.requires_grad = True
            g = tg.tanh(x * x).sum()
            for _ in range(order):
                (g,) = tg.autograd.grad(g.sum(), x, create_graph=True)  # type: ignore[assignment]
            tg.func.jvp(tg.exp, (x,), (x,))
            del x, g, values
            assert kept() is None
    finally:
        gc.enable()


# -- lines -----------------------------------------------------------------------------------------------------------


def test_nodes_know_their_line_only_when_asked() -> None:
    x = leaf()
    y = x * 2
    with tg.autograd.record_lines():
        z = x * 2
        line = here(-1)
    assert str(z._node.known.line) == line  # type: ignore[union-attr]
    assert z._node.name == f"multiply at {line}"  # type: ignore[union-attr]
    assert y._node.watch is None
    assert y._node.name == "multiply"  # type: ignore[union-attr]


def test_lines_are_those_of_the_user_also_through_layers() -> None:
    model = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.ReLU())
    with tg.autograd.record_lines():
        y = model(np.ones((2, 3), np.float32))
        line = here(-1)
    assert str(y._node.known.line) == line


def test_freed_graph_names_the_line() -> None:
    with tg.autograd.record_lines():
        x = leaf()
        y = x * x
        line = here(-1)
    y.backward()
    with pytest.raises(GraphError, match="a second time") as caught:
        y.backward()
    assert f"multiply at {line}" in str(caught.value)


def test_errors_of_rules_and_hooks_name_operation_and_line() -> None:
    class Wrong(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: tg.Tensor) -> tg.Tensor:
            return tg.ones((3, 3))

    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with tg.autograd.record_lines():
        y = Wrong.apply(x)
        line = here(-1)
    with pytest.raises(ShapeError, match="Wrong.backward returned") as caught:
        y.sum().backward()
    assert caught.value.__notes__ == [f"In backward of Wrong at {line}."]
    z = tg.exp(x)
    z.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError) as failed:
        z.sum().backward()
    assert failed.value.__notes__ == ["In backward of exp."]


def test_overwritten_array_names_both_lines() -> None:
    with tg.autograd.record_lines():
        x = tg.tensor([1.0, 2.0], requires_grad=True)
        y = tg.exp(x)
        read = here(-1)
    with tg.no_grad():
        y[0] = 5.0
        wrote = here(-1)
    with pytest.raises(GraphError, match="wrote into") as caught:
        y.backward(np.ones(2, np.float32))
    assert f"exp at {read}" in str(caught.value)
    assert wrote in str(caught.value)
