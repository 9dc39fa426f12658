"""The recorded graph and the two walks over it. Knows no Tensor: gradients are whatever the rules compute with.

A node is made when its operation runs, and takes the next number of one rising counter; its parents were made before.
So *creation order is a topological order*: sorting the reachable nodes by that number is all the ordering a walk
needs. Nothing recurses, so depth and fan-in are limited by memory alone.

A node owns no reference to the Tensor it belongs to, only the arrays its rules name (see `registry`), so a graph is a
tree of references from results back to inputs, without cycles: dropping the result frees it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .errors import Anomaly, GraphError
from .writes import Print, next_order as next_order, writes as writes

if TYPE_CHECKING:
    from .lines import Line
    from .registry import Op  # for annotations only: at run time this file imports nothing above it
    from .strong_zero import Careful

_by_order = attrgetter("order")
_NOTHING: dict[str, Any] = {}  # the parameters of all nodes that are freed


class Watch:
    """What is wanted of few nodes, and known of few. (A graph may have millions: nodes themselves are kept small.)"""

    hooks: dict[int, Callable[[Any], Any]] | None = None  # on its gradient
    retain = False  # that its gradient is kept here
    grad: Any = None
    kept: Print | None = None  # what it keeps is compared with this, see `writes.py`
    part: Part | None = None  # the checkpoint that it is in
    count = 1  # how many results it is the sum of, made by in-place additions, see `sums.py`
    line: Line | None = None  # where the user's program made it; set by inspectors, see `modes.py`
    kink: np.ndarray[Any, Any] | None = None  # where in its result the arguments are at a kink; set by `kinks`
    run: Run | None = None  # of a leaf: the run of a function that it was made for
    origin: Anomaly | None = None  # where a NaN or an infinity in its result came from; set by `detect_anomaly`


_UNWATCHED = Watch()


class Run:
    """One run of a function by a transform of `func`: entered by the run itself, and by each walk over it.

    At other times nobody differentiates by its leaves.
    """

    def __init__(self) -> None:
        self._inside: list[None] = []  # one for each time it is entered; lists are safe to change from several threads

    @contextmanager
    def entered(self) -> Generator[None]:
        """Inside, someone may differentiate by its leaves; also when a checkpoint runs this part again."""
        token = _entered.set((*_entered.get(), self))
        self._inside.append(None)
        try:
            yield
        finally:
            self._inside.pop()
            _entered.reset(token)

    def is_over(self) -> bool:
        """Whether it is not entered: not in any thread, nor in this context, which a checkpoint may have kept."""
        return not self._inside and self not in _entered.get()


_entered: ContextVar[tuple[Run, ...]] = ContextVar("tinygrad_nn_entered", default=())


class _Watched:
    __slots__ = ("watch",)
    watch: Watch | None

    @property
    def known(self) -> Watch:
        """What is known of it, to read."""
        return _UNWATCHED if self.watch is None else self.watch

    def watched(self) -> Watch:
        """What is known of it, to write."""
        if self.watch is None:
            self.watch = Watch()
        return self.watch


class Node(_Watched):
    """One recorded operation: its parents, and what its derivative rules will need."""

    __slots__ = ("order", "op", "parents", "saved", "params", "shape", "dtype")
    open = False  # whether NumPy code holds the array of the result, too: see `writes.py`

    # No __init__: `declare.py` and `apply` fill the slots themselves, in half the time. Others call `new_node`.
    order: int
    op: Op
    parents: tuple[Node | Leaf | None, ...]  # one per argument; None where no gradient is wanted
    saved: tuple[Any, ...] | None  # (output, *arguments); None once freed
    params: dict[str, Any]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def name(self) -> str:
        """How errors call it: the operation, and the line that ran it where that is known."""
        line = self.known.line
        return self.op.name if line is None else f"{self.op.name} at {line}"


def new_node(
    op: Op,
    parents: tuple[Node | Leaf | None, ...],
    saved: tuple[Any, ...],
    params: dict[str, Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Node:
    """The node of an operation that has just run."""
    node = Node()
    node.order = next_order()
    node.op = op
    node.parents = parents
    node.saved = saved
    node.params = params
    node.shape = shape
    node.dtype = dtype
    node.watch = None
    return node


class OpenNode(Node):
    """What a node becomes when NumPy code gets hold of the array of its result."""

    __slots__ = ()
    open = True


class Part(Protocol):
    """A part of a graph whose nodes keep nothing, because it can compute that again: see `checkpoint`."""

    def recall(self, node: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """`saved` and `params` of a node of this part."""


class Leaf(_Watched):
    """A graph input that wants a gradient; the gradient is kept here."""

    __slots__ = ("order", "shape", "dtype", "grad", "open")
    parents: tuple[()] = ()

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.order = next_order()
        self.shape = shape
        self.dtype = dtype
        self.grad: Any = None  # a Tensor, or an array that nobody has asked for yet
        self.watch = None
        self.open = False  # whether NumPy code holds the array, too: see `writes.py`


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
    makes a cotangent the shape and dtype of its node, `observe` runs hooks. `careful` knows which cotangents are loose,
    because they come through operations that select or have infinite slopes, and mends what rules make of those (see
    `strong_zero`). `inspect` is shown every step, as (node, number of the argument, cotangent of the node, cotangent of
    the argument). Returns the cotangents of all leaves and targets, and which of them are such buffers (others may
    share memory).
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
        watch = node.watch
        if watch is not None and (watch.hooks or watch.retain):
            g = observe(node, g)
            owned.discard(node)  # hooks may have kept it, or given something of their own
        if targets and node in targets:
            ends[node] = g
            if wanted is not None and wanted.isdisjoint(node.parents):
                continue  # the walk ends here: what lies behind may have been freed
        saved, params = node.saved, node.params
        if saved is None:
            saved, params = recalled(node, unpack)
        else:
            if node.order < writes.last:
                writes.check(node)
            if watch is not None and watch.kept is not None:
                writes.compare(node, watch.kept)
            if unpack is not None:
                saved, params = unpack(node)
        op = node.op
        care = level = 0
        if loose or not op.ordinary:
            known = loose.get(node, 0)
            level = known | op.selects
            if known & op.looks or op.singular is not None:
                care = careful.enter(op, known, saved)
            if op.variadic:
                saved = saved[:1]  # handing all arguments to the rule of each would take quadratic time
        args = (g, *saved)
        i = -1
        for parent, rule in zip(node.parents, op.vjps):  # noqa: B905  # variadic rules have no length
            i += 1
            if parent is None or (wanted is not None and parent not in wanted):
                continue
            pulled = rule(*args, **params) if params else rule(*args)
            if level:
                loose[parent] = loose.get(parent, 0) | level
            if care:
                pulled = careful.mend(care, node, i, g, pulled, saved, params)
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
            node.params = _NOTHING
            node.parents = ()
            if watch is not None:
                watch.kept = None
    for leaf, g in grads.items():  # only leaves are left
        if leaf.watch is not None and (leaf.watch.hooks or leaf.watch.retain):
            grads[leaf] = observe(leaf, g)
            owned.discard(leaf)
    ends.update(grads)
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
    saved values, parameters). `inspect` is shown every step, as (node, number of the argument, its tangent, what
    that adds to the node's).
    """
    for node in nodes:
        if node in tangents or isinstance(node, Leaf):
            continue
        moving = [(i, tangents[p]) for i, p in enumerate(node.parents) if p is not None and p in tangents]
        if not moving:
            continue
        if node.saved is None:
            saved, params = recalled(node, unpack)
        else:
            if node.order < writes.last:
                writes.check(node)
            if node.watch is not None and node.watch.kept is not None:
                writes.compare(node, node.watch.kept)
            saved, params = unpack(node)
        if node.op.together is not None and inspect is None:  # one by one would take quadratic time
            tangents[node] = fit(node.op.together(dict(moving), *saved[1:], **params), node)
            continue
        total = None
        for i, t in moving:
            pushed = node.op.jvps[i](t, *saved, **params) if push is None else push(node.op, i, t, saved, params)
            if inspect is not None:
                inspect(node, i, t, pushed)
            total = pushed if total is None else total + pushed
        tangents[node] = fit(total, node)


def recalled(node: Node, unpack: Unpack | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a node that has nothing saved lends to this walk: a checkpoint computes it again, or it was freed."""
    part = node.known.part
    if not node.parents or part is None:
        raise freed(node)
    saved, params = part.recall(node)
    if unpack is None:
        return saved, params
    empty, node.saved, node.params = node.params, saved, params
    try:
        return unpack(node)
    finally:
        node.saved, node.params = None, empty


def newer(roots: Iterable[AnyNode], order: int) -> list[AnyNode]:
    """The nodes made after `order` that the roots depend on, themselves included if they are as new; oldest first."""
    found = {root for root in roots if root.order > order}
    stack = list(found)
    while stack:
        for parent in stack.pop().parents:
            if parent is not None and parent.order > order and parent not in found:
                found.add(parent)
                stack.append(parent)
    return sorted(found, key=_by_order)


def freed(node: Node) -> GraphError:
    """The error for walking a node whose saved arrays are gone."""
    return GraphError(
        f"backward through {node.name} (result {node.dtype}{node.shape}) a second time: its saved arrays were freed "
        "by the first. Call backward(retain_graph=True) the first time, or run the forward pass again; a result "
        "carried over from an earlier step needs detach()."
    )
