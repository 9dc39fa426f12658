"""Gradients of recorded results: `grad`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from . import graph
from ._types import ArrayLike
from .batched import Batched
from .errors import ArgumentError, GraphError, describe
from .tensor import Tensor, own, pull, seed, wrap

_WHY = {
    "output": ": no input of it does, or it was made under no_grad, or from a gradient without create_graph=True",
    "input": ": make it with requires_grad=True, and compute the outputs from it",
}


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: ArrayLike | Sequence[ArrayLike | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, one for each input; no `.grad` is touched.

    `grad_outputs` are the cotangents to start from, one per output; they may be left out for single elements. The
    outputs' contributions add up. With `create_graph` the gradients can be differentiated again. An input that no
    output depends on is an error, or with `allow_unused` gives None.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor(3.0, requires_grad=True)
    >>> (first,) = tg.autograd.grad(x**3, x, create_graph=True)
    >>> (second,) = tg.autograd.grad(first, x)
    >>> first.item(), second.item()
    (27.0, 18.0)
    """
    ys = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    xs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if isinstance(outputs, Tensor) or grad_outputs is None:
        starts: list[Any] = [grad_outputs] * len(ys)
    else:
        starts = list(cast("Sequence[Any]", grad_outputs))
    if len(starts) != len(ys):
        raise ArgumentError(f"grad: {len(ys)} outputs but {len(starts)} grad_outputs")
    for what, tensors in (("output", ys), ("input", xs)):
        for i, t in enumerate(tensors):
            if isinstance(t, Batched):
                raise GraphError(f"grad: {what} {i} is {t!r}; inside vmap use tg.func.grad, which keeps examples apart")
            if not isinstance(t, Tensor) or t._node is None:
                raise GraphError(f"grad: {what} {i}, {describe(t)}, requires no gradient{_WHY[what]}")
    retain = create_graph if retain_graph is None else retain_graph
    seeds: dict[Any, Any] = {}
    for y, start in zip(ys, starts, strict=True):
        g = seed(y, start)
        seeds[y._node] = seeds[y._node] + g if y._node in seeds else g
    nodes = graph.reachable(seeds)
    unused = {x._node for x in xs}.difference(nodes)
    if unused and not allow_unused:
        for node in nodes:  # a freed graph no longer knows what it came from
            if isinstance(node, graph.Node) and not node.parents:
                raise graph.freed(node)
        i, x = next((i, x) for i, x in enumerate(xs) if x._node in unused)
        raise GraphError(f"grad: no output depends on input {i}, {describe(x)}; allow_unused=True gives None for it")
    return gradients(seeds, [x._node for x in xs], nodes=nodes, create=create_graph, free=not retain)


def gradients(
    seeds: dict[Any, Any], sources: Sequence[Any], *, create: bool, free: bool, nodes: Sequence[Any] | None = None
) -> tuple[Tensor | None, ...]:
    """The cotangents that reach the nodes `sources` from `seeds`; None where nothing does.

    `nodes` are the nodes that the seeds depend on, if they are known.
    """
    wanted = graph.dependents(graph.reachable(seeds) if nodes is None else nodes, sources)
    ends, owned = pull(seeds, create=create, free=free, targets=frozenset(sources), wanted=wanted)

    def result(node: Any) -> Tensor | None:
        ours = node in owned or _alone(ends, node)
        g = ends.get(node)
        if g is None:
            return None
        if isinstance(g, Tensor):
            return own(g)
        return wrap(g if ours else g.copy(), None)

    return tuple(result(node) for node in sources)


def _alone(ends: dict[Any, Any], node: Any) -> bool:
    """Whether nobody else holds the array `ends[node]`, nor the memory that it views: then it needs no copy."""
    g = ends.get(node)
    if type(g) is not np.ndarray or not g.flags.writeable:
        return False
    base, views = g.base, g.base is not None
    if views and (type(base) is not np.ndarray or base.size != g.size):
        return False
    del g, base
    return _references(ends, node) == _ALONE and (not views or sys.getrefcount(ends[node].base) == _ALONE)


def _references(ends: dict[Any, Any], node: Any) -> int:
    return sys.getrefcount(ends[node])


_ALONE = _references({None: np.zeros(1)}, None)
