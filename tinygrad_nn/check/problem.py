"""The function under check, seen as arrays in, arrays out: values, and derivatives as the engine gives them.

Inputs are nested containers of Tensors and arrays. Those that a gradient is checked for are laid end to end in one
vector; everything else stays as the caller gave it. A module's parameters count as inputs.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import graph
from .._types import Array
from ..errors import ArgumentError, DTypeError, describe
from ..func import _as_saved, _fit
from ..function import Function
from ..graph import Leaf, Node
from ..modes import enable_grad
from ..tensor import Tensor, wrap
from ..transforms import gradients
from ..tree import describe_path, flatten, paths, unflatten


class Problem:
    """A function with the inputs to check it at.

    `call` takes one Tensor for each checked input and returns the function's floating results.
    """

    def __init__(
        self, call: Callable[[Sequence[Tensor]], list[Any]], names: Sequence[str], arrays: Sequence[Array]
    ) -> None:
        self.call = call
        self.names = list(names)
        self.arrays = [np.array(a) for a in arrays]
        self.shapes = [a.shape for a in self.arrays]
        ends = np.cumsum([0, *(a.size for a in self.arrays)]).tolist()
        self.slices = [slice(a, b) for a, b in itertools.pairwise(ends)]
        self.size: int = ends[-1]

    def with_dtype(self, dtype: Any) -> Problem:
        """The same function at the same point, in another dtype."""
        return Problem(self.call, self.names, [a.astype(dtype) for a in self.arrays])

    @property
    def x(self) -> Array:
        """All inputs end to end."""
        return join(self.arrays)

    @property
    def scale(self) -> Array:
        """A typical size of each element: that of the input it belongs to; 1 for an input of zeros."""
        scale = np.ones(self.size)
        for s, a in zip(self.slices, self.arrays, strict=True):
            size = float(np.max(np.abs(a), initial=0.0)) / 2
            scale[s] = size if size > 0 and math.isfinite(size) else 1.0
        return scale

    def split(self, vector: Array) -> list[Array]:
        """A vector of all inputs, taken apart into arrays of their shapes."""
        return [vector[s].reshape(shape) for s, shape in zip(self.slices, self.shapes, strict=True)]

    def cast(self, vector: Array) -> list[Array]:
        """The same, as near to that as the dtypes of the inputs allow."""
        return [v.astype(a.dtype) for v, a in zip(self.split(vector), self.arrays, strict=True)]

    def outputs_at(self, arrays: Sequence[Array]) -> list[Array]:
        """The values of the function, nothing recorded."""
        return [_array(y) for y in self.call([wrap(a[()], None) for a in arrays])]

    def at(self, vector: Array) -> Array:
        """The values of the function at a vector of all inputs, end to end."""
        outputs = self.outputs_at(self.split(vector))
        return outputs[0].reshape(-1) if len(outputs) == 1 else join(outputs)

    def record(self, arrays: Sequence[Array] | None = None) -> Recording:
        """One recorded run of the function, at the inputs or at other arrays of their shapes."""
        leaves = [wrap(a[()], Leaf(a.shape, a.dtype)) for a in (self.arrays if arrays is None else arrays)]
        with enable_grad():
            return Recording(leaves, self.call(leaves))


class Recording:
    """A run of the function with its graph, which can be walked in both directions any number of times."""

    def __init__(self, inputs: list[Tensor], outputs: list[Any]) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.sources = [x._node for x in inputs]
        self.ends = [y._node if isinstance(y, Tensor) else None for y in outputs]
        self.values = [_array(y) for y in outputs]
        self.nodes = graph.reachable([n for n in self.ends if n is not None])

    def vjp(self, cotangents: Sequence[Array]) -> list[Array]:
        """The cotangents of the inputs; zeros where nothing arrives."""
        seeds: dict[Any, Any] = {}
        for node, g in zip(self.ends, cotangents, strict=True):
            if node is not None:
                seeds[node] = seeds[node] + g[()] if node in seeds else g[()]
        found = gradients(seeds, self.sources, create=False, free=False, nodes=self.nodes)
        return [np.zeros(x.shape, x.dtype) if g is None else _array(g) for x, g in zip(self.inputs, found, strict=True)]

    @property
    def has_jvp(self) -> bool:
        """Whether every operation met has a rule for forward mode."""
        return all(isinstance(node, Leaf) or node.op.jvps for node in self.nodes)

    def jvp(self, tangents: Sequence[Array]) -> list[Array]:
        """The tangents of the outputs."""
        moving: dict[Any, Any] = {n: t[()] for n, t in zip(self.sources, tangents, strict=True)}
        graph.forward(self.nodes, moving, unpack=_as_saved, fit=_fit)
        return [
            np.asarray(moving[n]) if n in moving else np.zeros(y.shape)
            for n, y in zip(self.ends, self.values, strict=True)
        ]

    def operations(self) -> list[Node]:
        """The recorded operations, in the order they ran."""
        return [node for node in self.nodes if isinstance(node, Node)]


def join(arrays: Sequence[Any]) -> Array:
    """Arrays end to end in one float64 vector."""
    if not arrays:
        return np.zeros(0)
    return np.concatenate([np.ravel(a) for a in arrays]).astype(np.float64, copy=False)


def problem_of(fn: Callable[..., Any], inputs: Any) -> Problem:
    """The problem of checking `fn(*inputs)` (`fn(inputs)` if that is no tuple or list)."""
    arguments = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    leaves, structure = flatten(arguments)
    flat = len(leaves) == len(arguments) and all(a is b for a, b in zip(leaves, arguments, strict=True))
    where = paths(structure)
    chosen = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
    if not chosen:
        chosen = [i for i, leaf in enumerate(leaves) if _is_floating(leaf)]
    parameters: list[tuple[str, Tensor]] = []
    if hasattr(fn, "named_parameters"):
        parameters = [(name, p) for name, p in fn.named_parameters() if p.requires_grad]
    buffers = [b for _, b in fn.named_buffers()] if hasattr(fn, "named_buffers") else []
    if not chosen and not parameters:
        given = ", ".join(describe(leaf) for leaf in leaves) or "nothing"
        raise ArgumentError(f"gradcheck: no input to check among ({given}): give floating Tensors or arrays")
    called = _parameter_names(fn)
    names = [_name(where[i], called) for i in chosen] + [name for name, _ in parameters]
    arrays = [_array(leaves[i]) for i in chosen] + [_array(p) for _, p in parameters]
    for name, a in zip(names, arrays, strict=True):
        if a.dtype.kind != "f":
            raise DTypeError(f"gradcheck: {name} is {describe(a)}; only real floating inputs can be checked")

    def call(tensors: Sequence[Tensor]) -> list[Any]:
        filled = list(leaves)
        for i, t in zip(chosen, tensors, strict=False):
            filled[i] = t
        return floating(fn(*(filled if flat else unflatten(structure, filled))))

    def call_module(tensors: Sequence[Tensor]) -> list[Any]:
        saved = [(p, p._data, p._node) for _, p in parameters]
        kept = [(b, b.data.copy()) for b in buffers]
        try:
            for (_, p), t in zip(parameters, tensors[len(chosen) :], strict=True):
                p._data, p._node = t._data, t._node
            return call(tensors)
        finally:
            for p, data, node in saved:
                p._data, p._node = data, node
            for b, data in kept:  # a running mean would make the second call differ from the first
                b.data = data

    def floating(result: Any) -> list[Any]:
        outputs = [y for y in ((result,) if isinstance(result, Tensor) else flatten(result)[0]) if _is_floating(y)]
        if not outputs:
            raise ArgumentError(f"gradcheck: the function must return floating Tensors, not {describe(result)}")
        return outputs

    return Problem(call_module if parameters or buffers else call, names, arrays)


def gradient_map(problem: Problem, cotangents: Sequence[Array]) -> Problem:
    """The problem of checking the gradients of `problem` as functions of its inputs and of the cotangents."""
    count = len(problem.arrays)

    def call(tensors: Sequence[Tensor]) -> list[Any]:
        xs = [t if t._node is not None else wrap(t._data, Leaf(t.shape, t.dtype)) for t in tensors[:count]]
        create = any(t._node is not None for t in tensors)
        with enable_grad():
            ys = problem.call(xs)
        seeds: dict[Any, Any] = {}
        for y, g in zip(ys, tensors[count:], strict=True):
            if isinstance(y, Tensor) and y._node is not None:
                start: Any = g if create else g._data
                seeds[y._node] = seeds[y._node] + start if y._node in seeds else start
        found = gradients(seeds, [x._node for x in xs], create=create, free=False)
        return [wrap(np.zeros(x.shape, x.dtype)[()], None) if g is None else g for x, g in zip(xs, found, strict=True)]

    names = [*problem.names, *(f"cotangent {i}" for i in range(len(cotangents)))]
    return Problem(call, names, [*problem.arrays, *cotangents])


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray | np.floating) and value.dtype.kind in "fc"


def _array(value: Any) -> Array:
    return np.asarray(value._data if isinstance(value, Tensor) else value)  # `data` would note that it is lent


def _name(path: tuple[Any, ...], called: Sequence[str]) -> str:
    head = called[path[0]] if path[0] < len(called) else f"input {path[0]}"
    return head + (describe_path(path[1:]) if len(path) > 1 else "")


def _parameter_names(fn: Callable[..., Any]) -> list[str]:
    """What the function calls its positional arguments, as far as that can be told."""
    owner = getattr(fn, "__self__", None)
    told, first = getattr(fn, "forward", fn), 0
    if isinstance(owner, type) and issubclass(owner, Function):
        told, first = owner.forward, 1  # without ctx
    try:
        parameters = inspect.signature(told).parameters.values()
    except (TypeError, ValueError):  # nothing is known of it, as of some functions in C
        return []
    named = itertools.takewhile(lambda p: p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD), parameters)
    return [p.name for p in named][first:]


def random_cotangents(values: Sequence[Array], rng: np.random.Generator) -> list[Array]:
    """Random upstream gradients of both signs, none near zero; 1 for a single number, so that figures can be read."""
    if len(values) == 1 and values[0].size == 1:
        return [np.ones(values[0].shape, values[0].dtype)]
    return [spread(rng, v.shape).astype(v.dtype) for v in values]


def spread(rng: np.random.Generator, shape: Any) -> Array:
    """Random numbers of either sign, between 0.5 and 1.5 in size: every element has a say."""
    n = math.prod(shape) if isinstance(shape, tuple) else shape
    values: Array = (rng.random(n) + 0.5) * rng.choice((-1.0, 1.0), n)
    return values.reshape(shape)
