"""The recorded graph and the two walks over it. Knows no Tensor: gradients are whatever the rules compute with.

A node is made when its operation runs, and takes the next number of one rising counter; its parents were made before.
So *creation order is a topological order*: sorting the reachable nodes by that number is all the ordering a walk
needs. Nothing recurses, so depth and fan-in are limited by memory alone.

A node owns no reference to the Tensor it belongs to, only the arrays its rules name (see `registry`), so a graph is a
tree of references from results back to inputs, without cycles: dropping the result frees it at once.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import GraphError

if TYPE_CHECKING:
    from .lines import Line
    from .registry import Op  # for annotations only: at run time this file imports nothing above it
    from .strong_zero import Careful

next_order = itertools.count().__next__  # atomic in CPython, so threads may record at the same time
_by_order = attrgetter("order")


class Node:
    """One recorded operation: its parents, and what its derivative rules will need."""

    __slots__ = ("order", "op", "parents", "saved", "params", "shape", "dtype", "watch", "line")

    line: Line  # where the user's program made it; set by inspectors only, see `modes.py` and `name`

    def __init__(
        self,
        op: Op,
        parents: tuple[Node | Leaf | None, ...],
        saved: tuple[Any, ...],
        params: dict[str, Any],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self.order = next_order()
        self.op = op
        self.parents = parents  # one per argument; None where no gradient is wanted
        self.saved: tuple[Any, ...] | None = saved  # (output, *arguments); None once freed
        self.params = params
        self.shape = shape
        self.dtype = dtype
        self.watch: Watch | None = None

    @property
    def name(self) -> str:
        """How errors call it: the operation, and the line that ran it where that is known."""
        line = getattr(self, "line", None)
        return self.op.name if line is None else f"{self.op.name} at {line}"


class Leaf:
    """A graph input that wants a gradient; the gradient is kept here."""

    __slots__ = ("order", "shape", "dtype", "grad", "watch")
    parents: tuple[()] = ()

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.order = next_order()
        self.shape = shape
        self.dtype = dtype
        self.grad: Any = None
        self.watch: Watch | None = None


class Watch:
    """What a user asked of one node: hooks on its gradient, and the gradient itself if retained."""

    __slots__ = ("hooks", "retain", "grad")

    def __init__(self) -> None:
        self.hooks: dict[int, Callable[[Any], Any]] = {}
        self.retain = False
        self.grad: Any = None


class Scatter:
    """A cotangent that is zero but at an index: what reading `x[index]` sends back.

    Many reads of one large array would each make an array of its size; these add into one buffer instead.
    """

    __slots__ = ("index", "values", "shape", "dtype", "add")

    def __init__(self, index: Any, values: Any, shape: tuple[int, ...], add: Callable[[Any, Any, Any], None]) -> None:
        self.index, self.values, self.shape, self.dtype, self.add = index, values, shape, values.dtype, add

    def add_to(self, total: Any) -> None:
        """`total[index] += values`, where an index that occurs twice adds twice."""
        self.add(total, self.index, self.values)


AnyNode = Node | Leaf
Unpack = Callable[[Node], tuple[tuple[Any, ...], dict[str, Any]]]
Fit = Callable[[Any, AnyNode], Any]
Inspect = Callable[[AnyNode, int, Any, Any], None]


def reachable(roots: Iterable[AnyNode]) -> list[AnyNode]:
    """Every node the roots depend on, themselves included, oldest first."""
    found = set(roots)
    stack = list(found)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent not in found:
                found.add(parent)
                stack.append(parent)
    return sorted(found, key=_by_order)


def dependents(nodes: Iterable[AnyNode], sources: Iterable[AnyNode]) -> set[AnyNode]:
    """Those of `nodes` (oldest first) that depend on a source; the sources count."""
    found = set(sources)
    for node in nodes:
        if not found.isdisjoint(node.parents):
            found.add(node)
    return found


def reverse(
    seeds: dict[AnyNode, Any],
    *,
    targets: frozenset[AnyNode] = frozenset(),
    wanted: set[AnyNode] | None = None,
    unpack: Unpack | None = None,
    fit: Fit,
    observe: Fit,
    careful: Careful,
    free: bool,
    inspect: Inspect | None = None,
) -> tuple[dict[AnyNode, Any], set[AnyNode]]:
    """Pull the cotangents `seeds` of some nodes back through the graph.

    With `wanted`, only edges to those nodes are followed. `unpack` gives a node's saved values as Tensors, to record
    the walk itself; without it rules run on the saved arrays, and sums go into buffers that this walk made. `fit`
    makes a cotangent the shape and dtype of its node, `observe` runs hooks, `careful` runs the rules of operations that
    select or have infinite slopes, and of all behind them (see `strong_zero`); `inspect` is shown every step, as (node,
    number of the argument, cotangent of the node, cotangent of the argument). Returns the cotangents of all leaves and
    targets, and which of them are such buffers (others may share memory).
    """
    plain = unpack is None
    grads = dict(seeds)
    owned: set[AnyNode] = set()
    ends: dict[AnyNode, Any] = {}
    loose = careful.loose
    heap = [(-node.order, node) for node in grads if isinstance(node, Node)]
    heapify(heap)
    while heap:
        node = heappop(heap)[1]  # the newest: all that depend on it have been met
        g = grads.pop(node)
        if node.watch is not None:
            g = observe(node, g)
            owned.discard(node)  # hooks may have kept it, or given something of their own
        if node in targets:
            ends[node] = g
            if wanted is not None and wanted.isdisjoint(node.parents):
                continue  # the walk ends here: what lies behind may have been freed
        saved, params = node.saved, node.params
        if saved is None:
            raise freed(node)
        if node.order < writes.last:
            writes.check(node)
        if unpack is not None:
            saved, params = unpack(node)
        op = node.op
        care = bool(loose) and node in loose
        if not op.ordinary:
            care = care or op.selects or op.singular
            if op.variadic:
                saved = saved[:1]  # handing all arguments to the rule of each would take quadratic time
        i = -1
        for parent, rule in zip(node.parents, op.vjps):  # noqa: B905  # variadic rules have no length
            i += 1
            if parent is None or (wanted is not None and parent not in wanted):
                continue
            if care:
                pulled = careful.pull(node, i, rule, g, saved, params)
            else:
                pulled = rule(g, *saved, **params) if params else rule(g, *saved)
            if pulled.shape != parent.shape or (pulled.dtype is not parent.dtype and pulled.dtype != parent.dtype):
                pulled = fit(pulled, parent)
            if inspect is not None:
                inspect(node, i, g, pulled)
            total = grads.get(parent)
            if total is None and isinstance(parent, Node):
                heappush(heap, (-parent.order, parent))
            if type(pulled) is Scatter:
                if total is None:
                    total = np.zeros(parent.shape, parent.dtype)
                elif parent not in owned or not total.ndim:
                    total = np.array(total)  # never a NumPy scalar, which nothing can be added into
                pulled.add_to(total)
                grads[parent] = total
                owned.add(parent)
            elif total is None:
                grads[parent] = pulled
                if plain and pulled is not g and pulled.base is None:
                    owned.add(parent)
            elif parent in owned and pulled.ndim:
                total += pulled
            else:
                grads[parent] = total + pulled
                if plain:
                    owned.add(parent)
        if free:
            node.saved = None
            node.parents = ()
    for leaf, g in grads.items():  # only leaves are left
        if leaf.watch is not None:
            g = observe(leaf, g)
            owned.discard(leaf)
        ends[leaf] = g
    return ends, owned


def forward(
    nodes: Iterable[AnyNode],
    tangents: dict[AnyNode, Any],
    *,
    unpack: Unpack,
    fit: Fit,
    push: Callable[..., Any] | None = None,
    inspect: Inspect | None = None,
) -> None:
    """Push `tangents` (of some nodes) forward to all of `nodes` that depend on them; `nodes` come oldest first.

    `push` runs a rule where that takes more than calling it, as (operation, number of the argument, its tangent,
    saved values, parameters). `inspect` is shown every step, as (node, number of the argument, its tangent, what that adds to the node's).
    """
    for node in nodes:
        if node in tangents or isinstance(node, Leaf):
            continue
        moving = [(i, tangents[p]) for i, p in enumerate(node.parents) if p is not None and p in tangents]
        if not moving:
            continue
        if node.saved is None:
            raise freed(node)
        if node.order < writes.last:
            writes.check(node)
        saved, params = unpack(node)
        total = None
        for i, t in moving:
            if push is None:
                pushed = node.op.jvps[i](t, *saved, **params)
            else:
                pushed = push(node.op, i, t, saved, params)
            if inspect is not None:
                inspect(node, i, t, pushed)
            total = pushed if total is None else total + pushed
        tangents[node] = fit(total, node)


class Writes:
    """Who wrote into which array after it was recorded.

    A write through the Tensor API takes the next creation number and notes it for the memory it changed. A node made
    before, that kept that memory, would give a wrong gradient: the walk refuses. Nodes made after the last write, the
    usual case, cost one comparison.
    """

    def __init__(self) -> None:
        self.last = -1
        self._stamps: dict[int, tuple[int, str, weakref.ref[Any]]] = {}

    def note(self, array: np.ndarray[Any, Any], writer: str) -> None:
        """`writer` has just changed `array`."""
        owner = array if array.base is None else _owner(array)
        key = id(owner)
        self.last = next_order()
        known = self._stamps.get(key)  # of this very array: the entry of one that is gone went with it
        alive = known[2] if known else weakref.ref(owner, lambda _: self._stamps.pop(key, None))
        self._stamps[key] = (self.last, writer, alive)

    def check(self, node: Node) -> None:
        """Raise if something that `node` kept has been written since."""
        for i, kept in enumerate(node.saved or ()):
            self.refuse(kept, node.order, node.name, f"its argument {i}" if i else "its result")
        for name, value in node.params.items():
            for kept in value if isinstance(value, tuple) else (value,):
                self.refuse(kept, node.order, node.name, f"its {name}")

    def refuse(self, kept: Any, order: int, name: str, what: str) -> None:
        """Raise if `kept`, which is `what` to the operation `name` recorded at `order`, has been written since."""
        if isinstance(kept, np.ndarray):
            stamp = self._stamps.get(id(_owner(kept)))
            if stamp is not None and stamp[0] > order:
                raise GraphError(
                    f"backward of {name} needs {what}, {kept.dtype}{kept.shape}, but {stamp[1]} wrote into "
                    "that array after the operation ran: the gradient would be wrong. Write into a copy, or call "
                    "backward first."
                )


def _owner(array: Any) -> Any:
    """The array that owns the memory `array` looks into."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


writes = Writes()


def freed(node: Node) -> GraphError:
    """The error for walking a node whose saved arrays are gone."""
    return GraphError(
        f"backward through {node.name} (result {node.dtype}{node.shape}) a second time: its saved arrays were freed "
        "by the first. Call backward(retain_graph=True) the first time, or run the forward pass again; a result "
        "carried over from an earlier step needs detach()."
    )
