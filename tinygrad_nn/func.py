"""Derivatives of functions as functions, nested to any order: `grad`, `vjp`, `jvp`, Jacobians, Hessians, products.

Each runs the function on fresh inputs and walks the graph it recorded: backwards, or forwards. A walk is itself
recorded only if something outside (an enclosing transform, a parameter that requires a gradient) could want to
differentiate it. Tangents and cotangents belong to one walk, never to a tensor, so nested transforms cannot mix up
whose they are. A Jacobian is one walk with a whole basis of tangents or cotangents, as a batch (see `vmap`).

Arguments and results may be nested lists, tuples and dicts of Tensors and arrays.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from . import graph, strong_zero
from ._types import ArrayLike
from .batched import Batched, Level, as_example, current_levels, lift, lower, new_level
from .errors import ArgumentError, DTypeError, describe
from .graph import Leaf, Node, new_node
from .implicit import custom_root, fixed_point
from .modes import enable_grad, is_grad_enabled, no_grad, notify, recording
from .nn.functional_call import functional_call
from .registry import OPS
from .tensor import Tensor, asarray, recorded, seed, wrap
from .transforms import gradients
from .tree import LEAF, Structure, flatten, is_numbers, tree_map, unflatten
from .views import foreign
from .vmap import vmap

__all__ = [
    "custom_root",
    "fixed_point",
    "functional_call",
    "ggnvp",
    "grad",
    "hessian",
    "hvp",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "value_and_grad",
    "vjp",
    "vmap",
]

Argnums = int | tuple[int, ...]

# -- gradients of one number -------------------------------------------------------------------------------------------


def grad(fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of `fn` by the argument at `argnums` (a tuple of gradients for a tuple).

    The argument is a Tensor or an array, or a list, tuple or dict of them, nested as you like; the gradient has its
    form. `fn` returns a single element; with `has_aux` (value, anything), and the result is (gradient, anything).

    >>> import tinygrad_nn as tg
    >>> tg.func.grad(tg.func.grad(lambda x: x**3))(2.0)
    tensor(12.)
    >>> tg.func.grad(lambda p: p["a"] * p["b"])({"a": tg.tensor(2.0), "b": tg.tensor(5.0)})
    {'a': tensor(5.), 'b': tensor(2.)}
    """
    both = value_and_grad(fn, argnums, has_aux)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(
    fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """As `grad`, but the function returns (value, gradient), with `has_aux` ((value, anything), gradient).

    >>> import tinygrad_nn as tg
    >>> tg.func.value_and_grad(lambda x: x * x)(3.0)
    (tensor(9.), tensor(6.))
    """

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        trace = _Trace("grad", fn, args, kwargs, argnums, has_aux)
        (value,) = trace.results if trace.form is LEAF else (None,)
        if value is None or value.size != 1:
            given = describe(value) if value is not None else f"{trace.form.leaf_count} tensors"
            raise ArgumentError(f"grad: the function must return one number as a Tensor, not {given}")
        found = trace.in_form(trace.pull([None]))
        value = trace.leave(value)
        return ((value, trace.aux) if has_aux else value), found

    return both


# -- products with the Jacobian ----------------------------------------------------------------------------------------


def vjp(fn: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of `fn` at `primals`, and the function from a cotangent to the cotangents of the arguments.

    The cotangent has the form of the value. With `has_aux`, `fn` returns (value, anything), and so does this at the
    end: (value, function, anything).

    >>> import tinygrad_nn as tg
    >>> y, pull = tg.func.vjp(lambda x: x * x, tg.tensor([1.0, 2.0]))
    >>> pull(tg.tensor([1.0, 10.0]))
    (tensor([ 2., 40.]),)
    """
    trace = _Trace("vjp", fn, tree_map(_lasting, primals), {}, tuple(range(len(primals))), has_aux)

    def pull_back(cotangent: Any) -> tuple[Any, ...]:
        starts = _leaves_like("vjp", "cotangent", cotangent, trace.form, trace.results)
        return trace.in_form(trace.pull(starts))  # type: ignore[no-any-return]

    value = trace.value()
    return (value, pull_back, trace.aux) if has_aux else (value, pull_back)


def jvp(
    fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> tuple[Any, ...]:
    """The value of `fn` at `primals`, and its derivative in the direction `tangents`, of the same form.

    With `has_aux`, `fn` returns (value, anything), and the result is (value, derivative, anything).

    >>> import tinygrad_nn as tg
    >>> tg.func.jvp(lambda x: x**3, (2.0,), (1.0,))
    (tensor(8.), tensor(12.))
    """
    _require_pairs("jvp", primals, tangents)
    trace = _Trace("jvp", fn, primals, {}, tuple(range(len(primals))), has_aux)
    moved = trace.push(trace.tangents(tangents))
    return (trace.value(), moved, trace.aux) if has_aux else (trace.value(), moved)


def linearize(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """The value of `fn` at `primals`, and the linear function from tangents of the arguments to that of the value.

    `fn` runs once; the linear function walks what it recorded, and may be called again and again.

    >>> import tinygrad_nn as tg
    >>> y, push = tg.func.linearize(lambda x: x**2, 3.0)
    >>> push(1.0), push(10.0)
    (tensor(6.), tensor(60.))
    """
    trace = _Trace("linearize", fn, tree_map(_lasting, primals), {}, tuple(range(len(primals))))

    def push_forward(*tangents: Any) -> Any:
        _require_pairs("linearize", primals, tangents)
        return trace.push(trace.tangents(tangents))

    return trace.value(), push_forward


def hvp(fn: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """The Hessian of `fn`, which returns one number, at `primals` times `tangents`: H v, without forming H.

    `primals` is the argument of `fn`, or a tuple of several; `tangents` and the result have its form. Forward mode
    over reverse mode, at a small multiple of the cost of `fn` (Pearlmutter, "Fast exact multiplication by the
    Hessian", 1994).

    >>> import tinygrad_nn as tg
    >>> tg.func.hvp(lambda x: (x**3).sum(), tg.tensor([1.0, 2.0]), tg.tensor([1.0, 1.0]))
    tensor([ 6., 12.])
    """
    if not isinstance(primals, tuple):
        return jvp(grad(fn), (primals,), (tangents,))[1]
    _require_pairs("hvp", primals, tangents)
    return jvp(grad(fn, tuple(range(len(primals)))), primals, tangents)[1]


def ggnvp(fn: Callable[..., Any], loss: Callable[[Any], Any], primals: Any, tangents: Any) -> Any:
    """The generalized Gauss-Newton matrix of `loss(fn(primals))` times `tangents`: Jᵀ H J v.

    J is the Jacobian of `fn` and H the Hessian of `loss` at the value of `fn`. It equals the Hessian but for the
    curvature of `fn`, and is positive semi-definite for a convex loss (Schraudolph, "Fast curvature matrix-vector
    products", 2002). `primals` as for `hvp`.

    >>> import tinygrad_nn as tg
    >>> x, v = tg.tensor([1.0, 2.0]), tg.tensor([1.0, 1.0])
    >>> tg.func.ggnvp(lambda x: x**2, lambda y: 0.5 * (y * y).sum(), x, v)
    tensor([ 4., 16.])
    """
    several = isinstance(primals, tuple)
    points, moves = (primals, tangents) if several else ((primals,), (tangents,))
    _require_pairs("ggnvp", points, moves)
    trace = _Trace("ggnvp", fn, points, {}, tuple(range(len(points))))
    curved = hvp(loss, trace.value(), trace.push(trace.tangents(moves)))
    found = trace.in_form(trace.pull(_leaves_like("ggnvp", "cotangent", curved, trace.form, trace.results)))
    return found if several else found[0]


# -- Jacobians ---------------------------------------------------------------------------------------------------------


def jacrev(fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the Jacobian of `fn`, by reverse mode: best where results are fewer than arguments.

    For a result y and an argument x it has shape (*y.shape, *x.shape). Where the result is nested, so is the Jacobian,
    with the form of the argument (or a tuple of them, for a tuple `argnums`) at each leaf. All rows are found in one
    walk. With `has_aux`, `fn` returns (value, anything), and the result is (Jacobian, anything).

    >>> import tinygrad_nn as tg
    >>> tg.func.jacrev(lambda x: x**2)(tg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace("jacrev", fn, args, kwargs, argnums, has_aux)
        blocks = [trace.in_form(_rows(trace, k)) for k in range(len(trace.results))]
        found = unflatten(trace.form, blocks)
        return (found, trace.aux) if has_aux else found

    return jacobian


def jacfwd(fn: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """As `jacrev`, by forward mode: best where arguments are fewer than results.

    >>> import tinygrad_nn as tg
    >>> tg.func.jacfwd(lambda x: x**2)(tg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        trace = _Trace("jacfwd", fn, args, kwargs, argnums, has_aux)
        columns = _columns(trace)
        blocks = [trace.in_form([column[k] for column in columns]) for k in range(len(trace.results))]
        found = unflatten(trace.form, blocks)
        return (found, trace.aux) if has_aux else found

    return jacobian


def hessian(fn: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns the matrix of second derivatives of `fn`: `jacfwd` of `jacrev`.

    For a result y and an argument x it has shape (*y.shape, *x.shape, *x.shape).

    >>> import tinygrad_nn as tg
    >>> tg.func.hessian(lambda x: x[0] ** 2 * x[1])(tg.tensor([2.0, 3.0]))
    tensor([[6., 4.],
            [4., 0.]])
    """
    return jacfwd(jacrev(fn, argnums), argnums)


def _rows(trace: _Trace, k: int) -> list[Tensor]:
    """The Jacobian of result k by every source: one walk, with every unit cotangent."""
    y = trace.results[k]
    starts: list[Any] = [None if i == k else _ABSENT for i in range(len(trace.results))]
    if y.size == 1 and not y.ndim:
        return trace.pull(starts)
    with new_level(y.size) as level:
        starts[k] = Batched(_basis(y, y.size, slice(None)), level)
        found = [lower(g, level) for g in trace.pull(starts)]
    return [_reshaped(g, (*y.shape, *s.shape)) for g, s in zip(found, trace.sources, strict=True)]


def _columns(trace: _Trace) -> list[list[Tensor]]:
    """For each source, the Jacobian of every result by it: one walk, with every unit tangent of all sources."""
    ends = np.cumsum([x.size for x in trace.sources], dtype=int).tolist()
    cuts = [slice(end - x.size, end) for x, end in zip(trace.sources, ends, strict=True)]
    with new_level(sum(x.size for x in trace.sources)) as level:
        moves = [Batched(_basis(x, level.size, cut), level) for x, cut in zip(trace.sources, cuts, strict=True)]
        found = [lower(t, level) for t in trace.push_leaves(moves)]
    found = [OPS["transpose"].call(t, axes=(*range(1, t.ndim), 0)) for t in found]
    return [
        [
            _reshaped(t if len(cuts) == 1 else t[..., cut], (*y.shape, *x.shape))
            for t, y in zip(found, trace.results, strict=True)
        ]
        for x, cut in zip(trace.sources, cuts, strict=True)
    ]


def _basis(x: Tensor, count: int, cut: slice) -> Tensor:
    """`count` arrays of the shape of `x`, side by side: those at `cut` have each a single one, the others zeros."""
    units = np.zeros((count, x.size), x.dtype)
    np.fill_diagonal(units[cut], 1)
    return wrap(units.reshape(count, *x.shape), None)


def _reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else OPS["reshape"].call(x, shape=shape)


# -- one run of a function, and the walks over it ----------------------------------------------------------------------

_ABSENT: Any = object()  # the cotangent of a result that a walk does not start from


class _Trace:
    """One run of `fn` on fresh tensors (`sources`) in place of its arguments at `argnums`; its results, as leaves."""

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        argnums: Argnums,
        has_aux: bool = False,
    ) -> None:
        self.name = name
        several = isinstance(argnums, tuple | list)
        self.single = not several
        chosen: Sequence[int] = argnums if several else (operator.index(argnums),)  # type: ignore[assignment,arg-type]
        if any(not -len(args) <= i < len(args) for i in chosen):
            raise ArgumentError(f"{name}: argnums {argnums} for {len(args)} arguments")
        if len({i % len(args) for i in chosen}) < len(chosen):
            raise ArgumentError(f"{name}: argnums {argnums} names an argument twice")
        self.structures: list[Structure] = []
        self.sources: list[Tensor] = []
        inputs = list(args)
        for i in chosen:
            leaves, structure = _leaves_of(args[i])
            fresh = [_fresh(leaf) for leaf in leaves]
            inputs[i] = unflatten(structure, fresh)
            self.structures.append(structure)
            self.sources += fresh
        self.run = graph.Run()
        for s in self.sources:
            if isinstance(s._node, Leaf):
                s._node.watched().run = self.run
        with self.run.entered(), enable_grad():
            result = fn(*inputs, **kwargs)
        self.aux = None
        if has_aux:
            if not isinstance(result, tuple) or len(result) != 2:
                raise ArgumentError(f"{name}: with has_aux the function must return (value, aux), not {result!r:.80}")
            result, self.aux = result
        results, self.form = flatten(result)
        # what does not depend on a Tensor may be a plain array
        self.results = [asarray(y) if isinstance(y, np.ndarray | np.generic) else y for y in results]
        for y in self.results:
            if not isinstance(y, Tensor):
                raise ArgumentError(f"{name}: the function must return a Tensor, or a tree of them, not {describe(y)}")
        self.nodes = graph.reachable([y._node for y in self.results if y._node is not None])
        ours = {s._node for s in self.sources}
        self.outside = [n for n in self.nodes if isinstance(n, Leaf) and n not in ours] if is_grad_enabled() else []

    @property
    def observed(self) -> bool:
        """Whether someone outside could differentiate a walk over what was recorded."""
        return any((run := leaf.known.run) is None or not run.is_over() for leaf in self.outside)

    def value(self) -> Any:
        """What the function returned, as the caller sees it."""
        return unflatten(self.form, [self.leave(y) for y in self.results])

    def leave(self, y: Tensor) -> Tensor:
        """A result with the history that it has outside the trace, if any."""
        return y if y._node is None or self.observed else y.detach()

    def in_form(self, found: Sequence[Any]) -> Any:
        """One leaf for each source, put into the form of the arguments."""
        rest = iter(found)
        trees = tuple(unflatten(s, [next(rest) for _ in range(s.leaf_count)]) for s in self.structures)
        return trees[0] if self.single else trees

    def tangents(self, given: Sequence[Any]) -> list[Any]:
        """The leaves of tangents, which must have the form and the shapes of the arguments."""
        moves, at = [], 0
        for structure, tangent in zip(self.structures, given, strict=True):
            sources = self.sources[at : at + structure.leaf_count]
            moves += _leaves_like(self.name, "tangent", tangent, structure, sources)
            at += structure.leaf_count
        return moves

    def pull(self, cotangents: Sequence[Any]) -> list[Tensor]:
        """The cotangents of all sources from those of the results (None: one, for a single element)."""
        seeds: dict[Any, Any] = {}
        batched = False
        for y, cotangent in zip(self.results, cotangents, strict=True):
            if y._node is None or cotangent is _ABSENT:
                continue
            start = _full_seed(y, cotangent)
            batched |= isinstance(start, Batched)
            seeds[y._node] = seeds[y._node] + start if y._node in seeds else start
        found: Sequence[Tensor | None] = [None] * len(self.sources)
        if seeds:
            observed = self.observed or (is_grad_enabled() and _tracked(seeds.values()))
            sources = [s._node for s in self.sources]
            with self.run.entered(), nullcontext() if observed else no_grad():
                found = gradients(seeds, sources, nodes=self.nodes, create=observed or batched, free=False)
        return [_zeros_like(s) if g is None else _in_batches(g, s) for g, s in zip(found, self.sources, strict=True)]

    def push(self, moves: Sequence[Any]) -> Any:
        """The tangent of the value, from those of all sources."""
        return unflatten(self.form, self.push_leaves(moves))

    def push_leaves(self, moves: Sequence[Any]) -> list[Tensor]:
        """The tangents of all results from those of the sources."""
        pairs = zip(self.sources, moves, strict=True)
        tangents: dict[Any, Any] = {s._node: _full_tangent(s, move) for s, move in pairs}
        starts = list(tangents.values())
        observed = self.observed or (is_grad_enabled() and _tracked(starts))
        as_tensors = observed or any(isinstance(t, Batched) for t in starts)
        if not as_tensors:
            tangents = {n: t._data for n, t in tangents.items()}
        with self.run.entered(), nullcontext() if observed else no_grad():
            unpack = recorded if as_tensors else _as_saved
            strong_zero.forward(self.nodes, tangents, [y._node for y in self.results], unpack=unpack, fit=_fit)
        found = [tangents.get(y._node) for y in self.results]
        return [
            _zeros_like(y) if t is None else _in_batches(t if isinstance(t, Tensor) else wrap(t, None), y)
            for t, y in zip(found, self.results, strict=True)
        ]


def _leaves_of(argument: Any) -> tuple[list[Any], Structure]:
    """An argument taken apart. A list of plain numbers is an array, a list of arrays a tree."""
    return ([argument], LEAF) if is_numbers(argument) else flatten(argument)


def _leaves_like(name: str, what: str, given: Any, structure: Structure, models: Sequence[Tensor]) -> list[Any]:
    """The leaves of a tangent or cotangent, which must have the form and the shapes of what it belongs to."""
    if structure is LEAF:
        leaves = [given]
    else:
        leaves, form = flatten(given)
        if form != structure:
            raise ArgumentError(f"{name}: the {what} {given!r:.200} has not the form of what it belongs to")
    tensors = [asarray(leaf) for leaf in leaves]
    for t, model in zip(tensors, models, strict=True):
        if t.shape != model.shape:
            raise ArgumentError(f"{name}: {what} {describe(t)} for {describe(model)}")
    return tensors


def _require_pairs(name: str, primals: Any, tangents: Any) -> None:
    if not isinstance(primals, list | tuple) or not isinstance(tangents, list | tuple):
        raise ArgumentError(
            f"{name}: primals and tangents are tuples with one entry per argument, such as (x,), not "
            f"{describe(primals)} and {describe(tangents)}"
        )
    if len(primals) != len(tangents):
        raise ArgumentError(f"{name}: {len(primals)} primals but {len(tangents)} tangents")


def _lasting(x: Any) -> Any:
    """`x`, or a copy where NumPy code may write into it before the walk comes."""
    if isinstance(x, Batched) or not isinstance(x, np.ndarray | Tensor) or not foreign(x):
        return x
    return OPS["copy"].call(x)


def _fresh(x: ArrayLike) -> Tensor:
    """A tensor that stands for `x` in one trace only, linked to the history of `x` if it has one.

    Inside `vmap` each example gets its own, for its own gradient.
    """
    t = asarray(x)
    if t.dtype.kind != "f":
        raise DTypeError(f"cannot differentiate by {describe(t)}: only floating dtypes have derivatives")
    for level in current_levels():
        t = lift(t, level)
    return _relinked(t)


def _relinked(t: Tensor) -> Tensor:
    if isinstance(t, Batched):
        return Batched(_relinked(t.full), t.level)
    if t._node is None or not is_grad_enabled():
        return wrap(t._data, Leaf(t.shape, t.dtype))
    op, mode = OPS["positive"], recording()
    fresh = wrap(t._data, new_node(op, (t._node,), (None, None), {}, t.shape, t.dtype))
    if mode is not True:
        notify(mode, op, (t,), {}, fresh)
    return fresh


def _levels_of(t: Tensor) -> list[Level]:
    """The batches that `t` is an example of, innermost first."""
    found = []
    while isinstance(t, Batched):
        found.append(t.level)
        t = t.full
    return found


def _full(t: Tensor, model: Tensor) -> Tensor:
    """`t`, which belongs to `model`, with the batches of `model` as ordinary axes: what the graph works with."""
    for level in _levels_of(model):
        t = lower(t, level)
    return t


def _in_batches(t: Tensor, model: Tensor) -> Tensor:
    """What the graph gives for `model` as an example of the same batches: undoes `_full`."""
    for level in reversed(_levels_of(model)):
        t = as_example(t, level)
    return t


def _full_seed(y: Tensor, cotangent: Any) -> Any:
    if not isinstance(y, Batched) and not isinstance(cotangent, Batched):
        return seed(y, cotangent)
    if cotangent is None:
        if y.size != 1:
            raise ArgumentError(f"grad: the function must return one number as a Tensor, not {describe(y)}")
        cotangent = wrap(np.ones(y.shape, y.dtype), None)
    t = asarray(cotangent)
    return _full(t if t.dtype == y.dtype else OPS["astype"].call(t, dtype=y.dtype), y)


def _full_tangent(s: Tensor, move: Tensor) -> Tensor:
    return _full(move if move.dtype == s.dtype else OPS["astype"].call(move, dtype=s.dtype), s)


def _tracked(values: Any) -> bool:
    return any(isinstance(v, Tensor) and v._node is not None for v in values)


def _zeros_like(t: Tensor) -> Tensor:
    return wrap(np.zeros(t.shape, t.dtype), None)


def _as_saved(node: Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    assert node.saved is not None
    return node.saved, node.params


def _fit(t: Any, node: Any) -> Any:
    """A tangent broadcast to the shape of its node, in its dtype."""
    if t.shape != node.shape:
        t = OPS["broadcast_to"].call(t, shape=node.shape)
    return t if t.dtype == node.dtype else OPS["astype"].call(t, dtype=node.dtype)
