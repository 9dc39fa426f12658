"""`checkpoint`: a part of a program whose intermediate arrays are not kept, but computed again for backward.

The part is recorded like any other, and then its nodes give away what they saved. When a walk meets one of them, the
part runs again as it ran before, and what its new nodes saved goes to the old ones. So the graph itself is that of the
program without checkpoint: parameters used inside get their gradients, hooks and derivatives of any order work, and
rules run on the same arrays in the same order, which makes gradients equal to the bit.
"""

from __future__ import annotations

import contextvars
import itertools
import threading
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import numpy as np

from ._types import Array
from .batched import Batched
from .errors import ArgumentError, GraphError, describe
from .graph import AnyNode, Node, newer, next_order, writes
from .modes import is_grad_enabled
from .random import default_generator, replay
from .strong_zero import values
from .tensor import Tensor, wrap
from .tree import flatten, tree_map
from .views import foreign
from .writes import contents, overwritten

SAMPLES = 64  # elements of each result that are compared when the part runs again


def checkpoint(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`fn(*args, **kwargs)`, whose intermediate arrays are dropped and computed again for backward: time for memory.

    Arguments and results are Tensors, or nested lists, tuples and dicts with Tensors in them. Only the arguments are
    kept. `fn` runs a second time during backward, with the same random numbers from the default generator, so it must
    do the same then: what it reads besides its arguments may not have changed. Both is checked; an error says so.

    A chain of n equal steps needs memory for √n of them if every √n steps are one checkpoint: `checkpoint_sequential`.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = tg.autograd.checkpoint(lambda a: tg.exp(tg.sin(a)), x)
    >>> y.sum().backward()
    >>> bool((x.grad == tg.exp(tg.sin(x)) * tg.cos(x)).all())
    True
    """
    if not is_grad_enabled():
        return fn(*args, **kwargs)
    part = _Part(fn, args, kwargs)
    result = fn(*args, **kwargs)
    part.drop(result)
    return result


def checkpoint_sequential(functions: Sequence[Callable[[Any], Any]], segments: int, input: Any) -> Any:
    """Run `functions` (such as a `Sequential`) one after another on `input`, in `segments` checkpoints of equal length.

    The last segment keeps its arrays, because backward begins there. With √n segments for n functions the memory
    grows as √n.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor(0.5, requires_grad=True)
    >>> tg.autograd.checkpoint_sequential([tg.sin] * 100, 10, x).backward()
    >>> 0 < x.grad.item() < 1
    True
    """
    steps = list(functions)
    if not isinstance(segments, int | np.integer):
        raise ArgumentError(
            f"checkpoint_sequential: segments is {describe(segments)}, no number; call it with "
            "(functions, segments, input)"
        )
    if not 1 <= segments <= max(len(steps), 1):
        raise ArgumentError(f"checkpoint_sequential: {segments} segments of {len(steps)} functions")
    cuts = [len(steps) * k // segments for k in range(segments + 1)]
    for start, end in itertools.pairwise(cuts[:-1]):
        input = checkpoint(_run, steps[start:end], input)
    return _run(steps[cuts[-2] :], input)


def _run(steps: Sequence[Callable[[Any], Any]], x: Any) -> Any:
    for step in steps:
        x = step(x)
    return x


class _Parent:
    """Stands for the parent of a node, in what a node of the same operation saved."""


_PARENT = _Parent()
_Saved = tuple[tuple[Any, ...], dict[str, Any]]
_again: ContextVar[weakref.ref[_Part] | None] = ContextVar("tinygrad_nn_again", default=None)


class _Open(threading.local):
    """The parts that have run again in this thread and may hold arrays that no walk has taken, outermost first."""

    def __init__(self) -> None:
        self.parts: list[weakref.ref[_Part]] = []


_open = _Open()


class _Part:
    """One call of `checkpoint`. Its nodes refer to it, and it to no node newer than its arguments: no cycle."""

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.fn = fn
        # Tensors of our own, because the caller may write other values into theirs.
        self.args, self.kwargs = tree_map(_twin, (args, kwargs))
        given = [(leaf, values(leaf)) for leaf in flatten((args, kwargs))[0]]
        self.prints = [(a, contents(a)) for leaf, a in given if isinstance(a, np.ndarray) and foreign(leaf)]
        self.context = contextvars.copy_context()  # modes and conventions
        self.random = default_generator().bit_generator.state
        self.outer = _again.get()
        self.order = next_order()
        self.orders = array("q")  # of the nodes, oldest first: node k is that with number orders[k]
        self.operations: list[str | None] = []
        self.samples: list[Array] = []
        self.store: dict[int, _Saved | Callable[[Node], _Saved]] = {}

    def drop(self, result: Any) -> None:
        """Take from the nodes of `result` what they saved."""
        nodes, self.samples = self.made(result, self.order)
        nothing: dict[str, Any] = {}  # one for all nodes, of which there may be many
        for node in nodes:
            if isinstance(node, Node):
                node.saved, node.params = None, nothing
                watch = node.watched()
                watch.part, watch.kept = self, None
            self.orders.append(node.order)
            self.operations.append(node.op.name if isinstance(node, Node) else None)

    def made(self, result: Any, since: int) -> tuple[list[AnyNode], list[Array]]:
        """The nodes that a run made for its result, oldest first, and samples of the result."""
        tensors = [leaf for leaf in flatten(result)[0] if isinstance(leaf, Tensor)]
        return newer([t._node for t in tensors if t._node is not None], since), [_sample(t) for t in tensors]

    def recall(self, node: Node) -> _Saved:
        """`saved` and `params` of a node of this part."""
        return self.take(self.number(node), node)

    def number(self, node: Node) -> int:
        """The place of a node among those of this part."""
        return bisect_left(self.orders, node.order)

    def take(self, k: int, node: Node) -> _Saved:
        """What node `k` saved in a run of this part, for `node`, which stands for it in the graph that is walked."""
        found = self.store.pop(k, None)
        if found is None:
            self.close_others()
            store = self.context.copy().run(self.run_again)
            found = store.pop(k)
            self.store = store
        if not isinstance(found, tuple):
            return found(node)  # of a checkpoint within this one
        saved, params = found
        return tuple(
            saved[:1] + tuple(p if a is _PARENT else a for a, p in zip(saved[1:], node.parents, strict=True))
        ), params

    def close_others(self) -> None:
        """Drop what other parts still hold. A walk never comes back to them, but to those that this one is within."""
        parts, outer = _open.parts, self.outer and self.outer()
        while parts and (part := parts[-1]()) is not outer:
            parts.pop()
            if part is not None:
                part.store = {}
        if outer is None:
            parts.clear()
        parts.append(weakref.ref(self))

    def run_again(self) -> dict[int, _Saved | Callable[[Node], _Saved]]:
        """What the nodes save that the part makes when it runs now."""
        for leaf in flatten((self.args, self.kwargs))[0]:
            writes.refuse(values(leaf), self.order, "checkpoint", "one of its arguments")
        for given, before in self.prints:
            if contents(given) != before:
                raise overwritten("checkpoint", "one of its arguments", given, "NumPy code")
        _again.set(weakref.ref(self))
        since = next_order()
        with replay(self.random):
            result = self.fn(*self.args, **self.kwargs)
        nodes, samples = self.made(result, since)
        operations = [n.op.name if isinstance(n, Node) else None for n in nodes]
        if operations != self.operations or not all(map(self.alike, self.samples, samples)):
            name = getattr(self.fn, "__qualname__", type(self.fn).__name__)
            raise GraphError(
                f"checkpoint: {name} gave another result when it ran again for backward, so the gradient would be "
                "wrong. Something it reads was changed in between (a parameter stepped, a buffer written), or "
                "it draws random numbers from another generator than the default one, tg.random.default_generator()"
            )
        store: dict[int, _Saved | Callable[[Node], _Saved]] = {}
        for k, node in enumerate(nodes):
            if not isinstance(node, Node):
                continue
            if node.saved is None:
                inner = cast("_Part", node.known.part)
                store[k] = partial(inner.take, inner.number(node))
            else:
                arguments = (
                    _PARENT if a is p and p is not None else a
                    for a, p in zip(node.saved[1:], node.parents, strict=True)
                )
                store[k] = (node.saved[0], *arguments), node.params
        return store

    def alike(self, first: Array, second: Array) -> bool:
        """Whether two samples of a result agree: to the bit if anything was written since the first."""
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        if np.array_equal(first, second, equal_nan=True):
            return True
        if writes.last > self.order or first.dtype.kind not in "fc":
            return False
        close = float(np.finfo(first.dtype).eps) ** 0.5 * float(np.max(np.abs(first), initial=0.0))
        return bool(np.allclose(first, second, rtol=0.0, atol=close, equal_nan=True))


def _twin(x: Any) -> Any:
    if isinstance(x, Batched):
        return Batched(_twin(x.full), x.level)
    return wrap(x._data, x._node) if isinstance(x, Tensor) else x


def _sample(t: Tensor) -> Array:
    """Some elements of a tensor, inside `vmap` of the whole batch."""
    flat = np.asarray(values(t)).flat
    return flat[:: max(1, len(flat) // SAMPLES)]
