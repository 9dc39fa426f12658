"""Random programs, step by step beside a naive model: the engine gives the right gradient, or refuses with a reason."""

from __future__ import annotations

import dataclasses
import itertools
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

import tinygrad_nn as tg
from tinygrad_nn.errors import GraphError, ShapeError

from . import model
from .model import Node, Value

NUMBERS = st.integers(-8, 8).map(lambda n: n / 4)
SEEDS = st.integers(0, 10**6)
SHAPES = st.sampled_from([(2, 3), (2, 3), (2, 3), (3,), (2, 1), ()])
LARGEST = 1e3  # so that products stay comparable
MOST_PATHS = 300  # the model walks each


@dataclasses.dataclass(eq=False)
class Twins:
    """The same thing in the engine and in the model."""

    real: Any
    naive: Value


class GraphMachine(RuleBasedStateMachine):
    """Both worlds do the same; after each step values, gradients and what is recorded must agree."""

    tensors = Bundle("tensors")
    arrays = Bundle("arrays")  # ndarrays that a tensor holds, each with a Value on the same memory

    def __init__(self) -> None:
        super().__init__()
        self.known: list[Twins] = []
        self.nodes: list[Node] = []

    def keep(self, real: Any, naive: Value) -> Any:
        if np.max(np.abs(naive.data), initial=0) > LARGEST or (
            naive.node is not None and naive.node.paths > MOST_PATHS
        ):
            return multiple()
        twins = Twins(real, naive)
        self.known.append(twins)
        self.remember(naive)
        return twins

    def remember(self, naive: Value) -> None:
        if naive.node is not None and naive.node not in self.nodes:
            self.nodes.append(naive.node)

    # -- making -------------------------------------------------------------------------------------------------------

    @initialize(target=tensors, seed=SEEDS)
    def start(self, seed: int) -> Any:
        shapes = ((2, 3), (2, 3), (3,), ())
        made = [self.leaf(seed + i, shape) for i, shape in enumerate(shapes)] + [self.constant(seed, (2, 3))]
        made += [self.binary(made[i], made[j], "multiply") for i, j in ((0, 0), (0, 2), (4, 1))]
        return multiple(*made)

    @rule(target=tensors, seed=SEEDS, shape=SHAPES)
    def leaf(self, seed: int, shape: tuple[int, ...]) -> Any:
        values = self.values(seed, shape)
        return self.keep(tg.Tensor(values.copy(), requires_grad=True), Value(values, Node()))

    @rule(target=tensors, seed=SEEDS, shape=SHAPES)
    def constant(self, seed: int, shape: tuple[int, ...]) -> Any:
        values = self.values(seed, shape)
        return self.keep(tg.tensor(values), Value(values))

    @staticmethod
    def values(seed: int, shape: tuple[int, ...]) -> Any:
        """Coarse numbers, so that ties and zeros happen."""
        return np.random.default_rng(seed).integers(-8, 9, shape) / 4

    # -- computing ----------------------------------------------------------------------------------------------------

    @rule(target=tensors, x=tensors, name=st.sampled_from(sorted(model.UNARY)), recording=st.booleans())
    def unary(self, x: Twins, name: str, recording: bool) -> Any:
        with nullcontext() if recording else tg.no_grad():
            real = getattr(tg, name)(x.real)
        return self.keep(real, model.unary(name, x.naive, recording))

    @rule(target=tensors, a=tensors, b=tensors, name=st.sampled_from(sorted(model.BINARY)))
    def binary(self, a: Twins, b: Twins, name: str) -> Any:
        try:
            naive = model.binary(name, a.naive, b.naive, True)
        except ValueError:
            with pytest.raises(ShapeError, match=name):
                getattr(tg, name)(a.real, b.real)
            return multiple()
        return self.keep(getattr(tg, name)(a.real, b.real), naive)

    @rule(target=tensors, a=tensors, name=st.sampled_from(sorted(model.BINARY)))
    def with_itself(self, a: Twins, name: str) -> Any:
        return self.keep(getattr(tg, name)(a.real, a.real), model.binary(name, a.naive, a.naive, True))

    @rule(target=tensors, x=tensors)
    def total(self, x: Twins) -> Any:
        return self.keep(x.real.sum(), model.total(x.naive, True))

    @rule(target=tensors, x=tensors, flat=st.booleans())
    def view(self, x: Twins, flat: bool) -> Any:
        if flat:
            naive = model.reshape(x.naive, (-1,), True)
            return self.maybe_view(x, x.real.reshape(-1), naive, x.naive.places.reshape(-1))
        return self.maybe_view(x, x.real.T, model.transpose(x.naive, True), x.naive.places.T)

    @rule(target=tensors, x=tensors, index=st.sampled_from([..., 0, -1, slice(0, 1), slice(None, None, -1), [0, 0]]))
    def read(self, x: Twins, index: Any) -> Any:
        if not x.naive.data.ndim and index is not ...:
            return multiple()
        if index == [0, 0]:
            index = np.array([0, 0])
        return self.maybe_view(x, x.real[index], model.read(x.naive, index, True), x.naive.places[index])

    def maybe_view(self, x: Twins, real: Any, naive: Value, places: Any) -> Any:
        """Whether NumPy gives a view depends on strides, which the model does not have."""
        if real.ndim and np.shares_memory(real._data, x.real._data):
            naive.view(x.naive, places)
        return self.keep(real, naive)

    @rule(target=tensors, x=tensors)
    def detach(self, x: Twins) -> Any:
        if not x.naive.data.ndim:
            return multiple()  # a 0-d result may be a NumPy scalar, which shares no memory
        x.naive.memory.exposed = True
        return self.keep(x.real.detach(), Value(0.0).look_at(x.naive.memory, x.naive.places))

    @rule(target=tensors, x=tensors)
    def no_grad_inside_out(self, x: Twins) -> Any:
        with tg.no_grad():
            off = x.real + x.real
            with tg.enable_grad():
                real = x.real * 3.0
        assert not off.requires_grad
        return self.keep(real, model.binary("multiply", x.naive, Value(3.0), True))

    # -- writing ------------------------------------------------------------------------------------------------------

    def touch(self, naive: Value) -> None:
        """The memory of `naive` was written into: whoever used it may have to refuse."""
        for node in self.nodes:
            if naive.memory in node.memory:
                node.touched = True

    def take_over(self, naive: Value, changed: Value) -> None:
        """A recorded write. It goes into new memory, except where somebody else looks at the old."""
        naive.write(changed)
        for value in (naive, naive.base, *naive.base.views):
            self.remember(value)
        if naive.memory.exposed:
            self.touch(naive)

    def writes_a_leaf(self, naive: Value) -> bool:
        return naive.base.node is not None and not naive.base.node.edges

    @rule(x=tensors, index=st.sampled_from([0, -1, slice(None), slice(0, 1)]), number=NUMBERS, recording=st.booleans())
    def write_number(self, x: Twins, index: Any, number: float, recording: bool) -> None:
        self.write(x, index, number, Value(number), recording)

    @rule(x=tensors, number=NUMBERS)
    def write_through_a_view(self, x: Twins, number: float) -> None:
        if x.naive.data.ndim:
            x.real.detach().T[0] = number
            x.naive.memory.flat[x.naive.places.T[0]] = number
            x.naive.memory.exposed = True
            self.touch(x.naive)

    @rule(target=arrays, x=tensors)
    def hand_out(self, x: Twins) -> Any:
        if not x.naive.data.ndim:
            return multiple()
        x.naive.memory.exposed = True
        return x.real.data, Value(0.0).look_at(x.naive.memory, x.naive.places)

    @rule(a=arrays, index=st.sampled_from([0, -1, slice(None)]), number=NUMBERS)
    def write_by_numpy(self, a: Any, index: Any, number: float) -> None:
        """Behind the tensors' back: the engine has to find out for itself."""
        array, naive = a
        array[index] = number
        naive.put(index, number)
        self.touch(naive)

    @rule(target=tensors, x=tensors, number=NUMBERS)
    def write_by_numpy_after_use(self, x: Twins, number: float) -> Any:
        handed = self.hand_out(x)
        if not isinstance(handed, tuple):
            return multiple()
        squared = self.with_itself(x, "multiply")
        self.write_by_numpy(handed, 0, number)
        return squared

    @rule(target=tensors, x=tensors, number=NUMBERS)
    def write_after_detaching(self, x: Twins, number: float) -> Any:
        alias = self.detach(x)
        self.write_number(x, 0, number, recording=True)
        return alias

    @rule(x=tensors, v=tensors)
    def write_tensor(self, x: Twins, v: Twins) -> None:
        shape = x.naive.data.shape[1:]
        if x.naive.data.ndim and v.naive.data.shape in (shape, ()):
            self.write(x, 0, v.real, v.naive, True)

    def write(self, x: Twins, index: Any, real: Any, naive: Value, recording: bool) -> None:
        if not x.naive.data.ndim:
            return
        tracked = recording and (x.naive.node is not None or naive.node is not None)
        if tracked and self.too_many_paths(x.naive, naive):
            return
        if tracked and self.writes_a_leaf(x.naive):
            with pytest.raises(GraphError, match="leaf"):
                x.real[index] = real
            return
        with nullcontext() if recording else tg.no_grad():
            x.real[index] = real
        if tracked:
            self.take_over(x.naive, model.updated(x.naive, index, naive, True))
        else:
            x.naive.put(index, naive.data)
            self.touch(x.naive)

    @staticmethod
    def too_many_paths(*values: Value) -> bool:
        nodes = [node for v in values for node in (v.node, v.base.node) if node is not None]
        return sum(node.paths for node in nodes) > MOST_PATHS

    @rule(x=tensors, v=tensors, name=st.sampled_from(["add", "subtract", "multiply"]), recording=st.booleans())
    def operate_in_place(self, x: Twins, v: Twins, name: str, recording: bool) -> None:
        if not x.naive.data.ndim or np.max(np.abs(x.naive.data)) * np.max(np.abs(v.naive.data)) > LARGEST:
            return
        method = {"add": "__iadd__", "subtract": "__isub__", "multiply": "__imul__"}[name]
        try:
            changed = model.binary(name, x.naive, v.naive, recording)
            fits = changed.data.shape == x.naive.data.shape
        except ValueError:
            fits = False
        with nullcontext() if recording else tg.no_grad():
            if not fits:
                with pytest.raises(ShapeError):
                    getattr(x.real, method)(v.real)
                return
            if changed.node is not None and self.too_many_paths(x.naive, changed):
                return
            if changed.node is not None and self.writes_a_leaf(x.naive):
                with pytest.raises(GraphError, match="leaf"):
                    getattr(x.real, method)(v.real)
                return
            assert getattr(x.real, method)(v.real) is x.real
        if changed.node is not None:
            self.take_over(x.naive, changed)
        else:
            x.naive.put(..., changed.data)
            self.touch(x.naive)

    # -- differentiating ----------------------------------------------------------------------------------------------

    @rule(y=tensors, seed=SEEDS, retain=st.booleans())
    def backward(self, y: Twins, seed: int, retain: bool) -> None:
        self.walk_back(y, seed, retain)

    def walk_back(self, y: Twins, seed: int, retain: bool) -> None:
        g = self.values(seed, y.naive.data.shape)
        node = y.naive.node
        if node is None:
            with pytest.raises(GraphError, match="requires no gradient"):
                y.real.backward(g)
            return
        if not self.refused([node], retain, lambda: y.real.backward(g, retain_graph=retain)):
            found: dict[Node, Any] = {}
            model.gradients(node, g, found)
            for end, total in found.items():
                if not end.edges:
                    end.grad = total if end.grad is None else end.grad + total
            self.spend([node], retain)

    @rule(y=tensors, z=tensors, x=tensors, seed=SEEDS)
    def grad(self, y: Twins, z: Twins, x: Twins, seed: int) -> None:
        """Of two results by one tensor, which may be in the middle of the graph."""
        if y.naive.node is None or z.naive.node is None or x.naive.node is None:
            return
        ends = [y.naive.node, z.naive.node]
        if not all(x.naive.node in end.reachable() for end in ends):
            return
        if any(n.freed or n.unsure or n.touched for end in ends for n in end.reachable()):
            return  # it walks only what lies between, so whether it refuses is its own affair
        seeds = [self.values(seed, t.naive.data.shape) for t in (y, z)]
        (given,) = tg.autograd.grad([y.real, z.real], x.real, seeds, retain_graph=True)
        found: dict[Node, Any] = {}
        for end, g in zip(ends, seeds, strict=True):
            model.gradients(end, g, found)
        np.testing.assert_allclose(given.data, found[x.naive.node], rtol=1e-9, atol=1e-9)
        assert not np.shares_memory(given.data, x.real._data)

    def refused(self, ends: list[Node], retain: bool, walk: Any) -> bool:
        """Run `walk`. Whether it raised, as it must through freed nodes and may where something was overwritten."""
        nodes = [n for end in ends for n in end.reachable() if n.edges]
        must = any(n.freed for n in nodes)
        may = must or any(n.touched or n.unsure for n in nodes)
        try:
            walk()
        except GraphError:
            assert may, "refused without a reason"
            if not retain:
                for n in nodes:
                    n.unsure = True  # the walk frees as it goes, up to where it stopped
            return True
        assert not must, "walked through freed nodes"
        return False

    def spend(self, ends: list[Node], retain: bool) -> None:
        for end in ends:
            for n in end.reachable():
                n.freed = n.freed or (not retain and bool(n.edges))

    @rule(x=tensors)
    def clear(self, x: Twins) -> None:
        if x.naive.node is not None and x.real.is_leaf:
            x.real.zero_grad()
            x.naive.node.grad = None

    def teardown(self) -> None:
        """One more backward through whatever was written into, and one through all the rest at once."""
        for t in self.known[::-1]:
            node = t.naive.node
            if node is not None and node.paths < MOST_PATHS and any(n.touched for n in node.reachable()):
                self.walk_back(t, 0, True)
        self.agree()
        sound = [t for t in self.known if t.naive.node is not None and t.naive.node.paths < MOST_PATHS]
        sound = [t for t in sound if not any(n.freed or n.unsure or n.touched for n in t.naive.node.reachable())]
        if not sound:
            return
        weights = [self.values(i, t.naive.data.shape) for i, t in enumerate(sound)]
        real = sum((t.real * w).sum() for t, w in zip(sound, weights, strict=True))
        real.backward()
        found: dict[Node, Any] = {}
        for t, w in zip(sound, weights, strict=True):
            model.gradients(t.naive.node, w, found)
        for end, g in found.items():
            if not end.edges:
                end.grad = g if end.grad is None else end.grad + g
        self.agree()

    # -- always -------------------------------------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        for t in self.known:
            np.testing.assert_allclose(t.real._data, t.naive.data, rtol=1e-10, atol=1e-10)
            assert t.real.requires_grad == (t.naive.node is not None)
            if t.naive.node is not None and t.real.is_leaf:
                if t.naive.node.grad is None:
                    assert t.real.grad is None
                else:
                    np.testing.assert_allclose(t.real.grad.data, t.naive.node.grad, rtol=1e-9, atol=1e-9)
                    assert not np.shares_memory(t.real.grad.data, t.real._data)
        grads = {id(t.real.grad): t.real.grad.data for t in self.known if t.real.is_leaf and t.real.grad is not None}
        for a, b in itertools.combinations(grads.values(), 2):
            assert not np.shares_memory(a, b), "two leaves have one gradient array"


GraphMachine.TestCase.settings = settings(
    max_examples=10 * settings.default.max_examples, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
TestGraphMachine = GraphMachine.TestCase


# -- the model itself, by hand -----------------------------------------------------------------------------------------


def test_model_against_constants() -> None:
    x, y = Value([1.0, 2.0], Node()), Value(3.0, Node())
    z = model.binary("multiply", x, y, True)
    out = model.total(model.binary("add", z, model.unary("square", x, True), True), True)
    assert out.data == 14.0
    found: dict[Node, Any] = {}
    model.gradients(out.node, np.array(1.0), found)
    np.testing.assert_array_equal(found[x.node], [5.0, 7.0])
    np.testing.assert_array_equal(found[y.node], 3.0)
    assert out.node.paths == 3


def test_model_ignores_later_writes() -> None:
    x = Value([1.0, 2.0], Node())
    y = model.unary("square", x, True)
    x.put(0, 100.0)
    found: dict[Node, Any] = {}
    model.gradients(y.node, np.ones(2), found)
    np.testing.assert_array_equal(found[x.node], [2.0, 4.0])


def test_model_reads_and_updates() -> None:
    x, v = Value([1.0, 2.0, 3.0], Node()), Value(7.0, Node())
    y = model.read(model.updated(x, 1, v, True), np.array([1, 1, 2]), True)
    np.testing.assert_array_equal(y.data, [7.0, 7.0, 3.0])
    found: dict[Node, Any] = {}
    model.gradients(y.node, np.array([1.0, 10.0, 100.0]), found)
    np.testing.assert_array_equal(found[x.node], [0.0, 0.0, 100.0])
    np.testing.assert_array_equal(found[v.node], 11.0)


def test_model_writes_through_a_view() -> None:
    x = Value([1.0, 2.0, 3.0], Node())
    y = model.unary("square", x, True)
    end = model.read(y, slice(1, None), True).view(y, y.places[1:])
    first = model.read(end, slice(0, 1), True).view(end, end.places[:1])
    first.write(model.binary("multiply", first, Value(10.0), True))
    np.testing.assert_array_equal(y.data, [1.0, 40.0, 9.0])
    np.testing.assert_array_equal(end.data, [40.0, 9.0])
    for value, g, expected in ((y, np.ones(3), [2.0, 40.0, 6.0]), (end, np.ones(2), [0.0, 40.0, 6.0])):
        found: dict[Node, Any] = {}
        assert value.node is not None
        model.gradients(value.node, g, found)
        np.testing.assert_array_equal(found[x.node], expected)
