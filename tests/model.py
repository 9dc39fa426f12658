"""A differentiator that is too slow and too simple to be wrong. Knows nothing of tinygrad_nn.

Every path from the result to an input is walked on its own, by recursion. Each operation keeps *copies* of what its
derivative reads, so that writing into an array later cannot change a gradient. Memory is a flat list of numbers, a
value a choice of places in it; a recorded write gives every value that is a view of the same one its new history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pull = Callable[[Array], Array]


class Memory:
    """Numbers that several values may look at."""

    def __init__(self, numbers: Array) -> None:
        self.flat = np.array(numbers, np.float64).reshape(-1)
        self.exposed = False  # somebody looks at it who does not follow recorded writes


class Node:
    """One step of a computation: where the gradient goes from here, and how."""

    def __init__(self, edges: Sequence[tuple[Node, Pull]] = (), memory: Sequence[Memory] = ()) -> None:
        self.edges = list(edges)
        self.memory = list(memory)  # of what went in and came out
        self.paths = sum(parent.paths for parent, _ in edges) or 1
        self.grad: Array | None = None  # of a leaf: what backward has added up
        self.freed = self.unsure = self.touched = False

    def reachable(self) -> Iterator[Node]:
        yield self
        for parent, _ in self.edges:
            yield from parent.reachable()


class Value:
    """Places in a memory, and the node that made what is there (None: no gradient wanted)."""

    def __init__(self, data: Any, node: Node | None = None) -> None:
        array = np.asarray(data, np.float64)
        self.memory = Memory(array)
        self.places = np.arange(array.size).reshape(array.shape)
        self.node = node
        self.base = self  # what this is a view of, if it is one
        self.views: list[Value] = []

    @property
    def data(self) -> Array:
        return self.memory.flat[self.places]

    def put(self, index: Any, numbers: Any) -> None:
        """Write without recording."""
        self.memory.flat[self.places[index]] = numbers

    def look_at(self, memory: Memory, places: Array) -> Value:
        self.memory, self.places = memory, places
        return self

    def view(self, of: Value, places: Array) -> Value:
        """Make this, which has the right history, a view."""
        self.base = of.base
        self.base.views.append(self)
        return self.look_at(of.memory, places)

    def write(self, changed: Value) -> None:
        """A recorded write: this becomes `changed`, and so does what shares its memory."""
        base = self.base
        was, there, shape = base.node, np.searchsorted(base.places.reshape(-1), self.places), base.places.shape

        def rest(g: Array) -> Array:
            g = g.copy()
            np.put(g, there, 0.0)
            return g

        if self is base:
            base.node = changed.node
        else:
            edges = [(was, rest)] if was is not None else []
            if changed.node is not None:
                edges.append((changed.node, lambda g: np.take(g, there)))
            base.node = Node(edges, [self.memory]) if edges else None
        self.put(..., changed.data)
        for view in base.views:
            spots = np.searchsorted(base.places.reshape(-1), view.places)

            def spread(g: Array, spots: Array = spots) -> Array:
                whole = np.zeros(shape)
                np.put(whole, spots, g)
                return whole

            view.node = None if base.node is None else Node([(base.node, spread)], [self.memory])


def gradients(node: Node, g: Array, found: dict[Node, Array]) -> None:
    """Add to `found` what arrives at each node when `g` arrives at this one."""
    found[node] = found.get(node, 0.0) + g
    for parent, pull in node.edges:
        gradients(parent, pull(g), found)


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """`g` summed over the axes along which an array of `shape` was repeated."""
    while g.ndim > len(shape):
        g = g.sum(axis=0)
    for axis, n in enumerate(shape):
        if n == 1:
            g = g.sum(axis=axis, keepdims=True)
    return g


def result(y: Any, inputs: Sequence[Value], pulls: Sequence[Pull], recording: bool) -> Value:
    edges = [(x.node, pull) for x, pull in zip(inputs, pulls, strict=True) if x.node is not None]
    made = Value(y)
    if edges and recording:
        made.node = Node(edges, [made.memory, *(x.memory for x in inputs)])
    return made


# -- operations: value, and slope from copies of value and inputs ------------------------------------------------------

UNARY: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "sin": (np.sin, np.cos),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "negative": (np.negative, lambda x: -np.ones_like(x)),
    "square": (np.square, lambda x: 2 * x),
    "relu": (lambda x: np.where(x > 0, x, 0.0), lambda x: np.where(x > 0, 1.0, 0.0)),
    "absolute": (np.absolute, lambda x: np.where(x > 0, 1.0, np.where(x < 0, -1.0, 0.0))),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2),
}
BINARY: dict[str, tuple[Callable[..., Array], Callable[..., Any], Callable[..., Any]]] = {
    "add": (np.add, lambda a, b: 1.0, lambda a, b: 1.0),
    "subtract": (np.subtract, lambda a, b: 1.0, lambda a, b: -1.0),
    "multiply": (np.multiply, lambda a, b: b, lambda a, b: a),
    "maximum": (
        np.maximum,
        lambda a, b: np.where(a > b, 1.0, np.where(a == b, 0.5, 0.0)),
        lambda a, b: np.where(b > a, 1.0, np.where(a == b, 0.5, 0.0)),
    ),
}


def unary(name: str, x: Value, recording: bool) -> Value:
    value, slope = UNARY[name]
    old = x.data.copy()
    return result(value(x.data), [x], [lambda g: g * slope(old)], recording)


def binary(name: str, a: Value, b: Value, recording: bool) -> Value:
    value, slope_a, slope_b = BINARY[name]
    x, y = a.data.copy(), b.data.copy()
    pulls = [lambda g: unbroadcast(g * slope_a(x, y), x.shape), lambda g: unbroadcast(g * slope_b(x, y), y.shape)]
    return result(value(a.data, b.data), [a, b], pulls, recording)


def total(x: Value, recording: bool) -> Value:
    shape = x.data.shape
    return result(x.data.sum(), [x], [lambda g: np.full(shape, g)], recording)


def reshape(x: Value, shape: tuple[int, ...], recording: bool) -> Value:
    old = x.data.shape
    return result(x.data.reshape(shape), [x], [lambda g: g.reshape(old)], recording)


def transpose(x: Value, recording: bool) -> Value:
    return result(x.data.T, [x], [lambda g: g.T], recording)


def read(x: Value, index: Any, recording: bool) -> Value:
    shape = x.data.shape

    def pull(g: Array) -> Array:
        whole = np.zeros(shape)
        np.add.at(whole, index, g)
        return whole

    return result(x.data[index], [x], [pull], recording)


def updated(x: Value, index: Any, v: Value, recording: bool) -> Value:
    """A copy of x with x[index] = v."""
    y, shape = np.array(x.data), v.data.shape
    y[index] = v.data

    def rest(g: Array) -> Array:
        g = g.copy()
        g[index] = 0.0
        return g

    return result(y, [x, v], [rest, lambda g: unbroadcast(g[index], shape)], recording)
