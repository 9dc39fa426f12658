"""`Function`: operations with a backward of the user's own."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import graph
from .batched import Batched
from .errors import ArgumentError, GraphError, ShapeError, describe
from .graph import AnyNode, Leaf, new_node
from .modes import enable_grad, is_grad_enabled, no_grad, notify, recording
from .ops.shape import concat, reshape, stack, sum_to
from .registry import OPS, Each, Op
from .tensor import Tensor, asarray, pull, wrap
from .views import expose, foreign, guard, link


class FunctionContext:
    """What the forward of a `Function` leaves for its backward: `save_for_backward`, and any attribute."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: tuple[Any, ...] = ()
        self._constant: tuple[Any, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep arguments and results until backward has run; other tensors are constants to second derivatives.

        An argument or a result that is made an attribute of `ctx` is kept in the same way.
        """
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors given to `save_for_backward`."""
        return self._saved

    def mark_non_differentiable(self, *results: Tensor) -> None:
        """Say of results that no gradient goes through them, as positions and the like; they get zeros in backward."""
        self._constant = results

    def set_materialize_grads(self, value: bool) -> None:
        """With False, backward may get None for a gradient that is 0 everywhere, as that of an unused result."""
        self._materialize = value


_OWN_ATTRIBUTES = len(vars(FunctionContext(())))


class Function:
    """An operation with a backward of your own: subclass it, write `forward` and `backward`, call `apply`.

    `forward(ctx, *args)` computes with Tensors (nothing is recorded) and returns a Tensor or a tuple of them;
    `backward(ctx, *grads)` gets one gradient per result and returns one per argument of `forward` (None where there is
    none). Written with this package's functions, `backward` can itself be differentiated, and forward mode follows
    from it. `jvp(ctx, *tangents)` may say how to go forward instead: it gets one tangent per argument (None for those
    without) and returns one per result.

    `apply` takes Tensors, arrays, which `forward` sees as Tensors, and anything else, which it sees as it is. Without
    any Tensor among the arguments the results are arrays.

    >>> import tinygrad_nn as tg
    >>> class Cube(tg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...     @staticmethod
    ...     def backward(ctx, grad):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * grad * x * x
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    >>> tg.func.jvp(Cube.apply, (2.0,), (1.0,))[1]
    tensor(12.)
    """

    @staticmethod
    def forward(ctx: FunctionContext, *args: Any) -> Any:
        """Compute the result; override this."""
        raise NotImplementedError("a Function must define forward(ctx, *args), as a staticmethod")

    @staticmethod
    def backward(ctx: FunctionContext, *grads: Tensor) -> Any:
        """Compute the gradients of the arguments from those of the results; override this."""
        raise NotImplementedError("a Function must define backward(ctx, *grads), as a staticmethod")

    @staticmethod
    def jvp(ctx: FunctionContext, *tangents: Tensor | None) -> Any:
        """Compute the tangents of the results from those of the arguments; optional."""
        raise NotImplementedError("forward mode is worked out from backward")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run `forward` on `args`, and record it if one of them requires a gradient."""
        plain, inputs, parents = True, list(args), []
        for i, a in enumerate(args):
            node = None
            if isinstance(a, Tensor):
                if isinstance(a, Batched):
                    return _one_by_one(cls, args)
                plain, node = False, a._node
            elif isinstance(a, np.ndarray | np.generic):
                inputs[i] = asarray(a)
            parents.append(node)
        ctx = FunctionContext(tuple([p is not None for p in parents]))
        with no_grad():
            result = cls.forward(ctx, *inputs)
        several = isinstance(result, tuple)
        returned = result if several else (result,)
        outputs = [r if isinstance(r, Tensor) else _result(cls, r) for r in returned]
        if plain:
            arrays = tuple(t._data for t in outputs)
            return arrays if several else arrays[0]
        constant = {id(r) for r in ctx._constant}
        smooth = [t.dtype.kind in "fc" and id(r) not in constant for t, r in zip(outputs, returned, strict=True)]
        if True not in ctx.needs_input_grad or True not in smooth or not (mode := recording()):
            return tuple(outputs) if several else outputs[0]
        joined = outputs[0] if len(outputs) == 1 else concat([reshape(t.detach(), (-1,)) for t in outputs])
        specs = [(t.shape, t.dtype) for t in outputs]
        # A saved result must not refer to the node (a cycle), so it is looked up by position.
        positions = {id(r): i for i, r in enumerate(returned)}
        y: Any = None
        kept: list[Any] = []
        links: list[AnyNode | int | None] = []
        names = _attributes(ctx, inputs, positions)
        count = len(ctx._saved)
        for k in (*ctx._saved, *(vars(ctx).pop(name) for name in names)):
            if k is None or id(k) in positions:
                kept.append(positions.get(id(k)))
                links.append(None)
                y = y if k is None else joined._data
            else:
                t = k if isinstance(k, Tensor) else asarray(k)
                kept.append(t._data)
                links.append(parents.index(t._node) if t._node in parents else t._node)
        ctx._saved = ctx._constant = ()
        params = {"call": _Call(cls, ctx, links, specs, count, names), "saved_tensors": tuple(kept)}
        op = cls._operation()
        made = new_node(op, tuple(parents), (y, *parents), params, joined.shape, joined.dtype)
        whole = wrap(joined._data, made)
        if any(map(foreign, args)):
            guard(made, 0)
        if mode is not True:
            notify(mode, op, args, {}, whole)
        if not several:
            for a in args:  # a forward may return one of them, or a view of it
                link(whole, a, op, params)
            if foreign(joined):  # an array that `forward` may write into when it runs again
                expose(whole)
            return whole
        pieces = _pieces(whole, specs)
        return tuple(p if s else t.detach() for t, p, s in zip(outputs, pieces, smooth, strict=True))

    @classmethod
    def _operation(cls) -> Op:
        """What nodes of this class have for an operation; it is in no table."""
        op = cls.__dict__.get("_op")
        if op is None:
            op = Op(cls.__name__, "general", cls.forward, Each(_vjp), Each(_jvp))
            cls._op = op
        return op

    _op: Op


class _Call:
    """One application of a `Function`: what its two rules need besides the saved arrays."""

    __slots__ = ("cls", "ctx", "links", "specs", "count", "names", "last", "_latest")

    def __init__(
        self,
        cls: type[Function],
        ctx: FunctionContext,
        links: list[AnyNode | int | None],
        specs: list[tuple[tuple[int, ...], np.dtype[Any]]],
        count: int,
        names: Sequence[str],
    ) -> None:
        self.cls, self.ctx, self.specs = cls, ctx, specs
        self.count, self.names = count, names  # of the saved tensors the first so many, and attributes for the rest
        self.links = links  # for each saved tensor the number of the argument that it is; else its node
        self.last = len(ctx.needs_input_grad) - 1 - ctx.needs_input_grad[::-1].index(True)
        self._latest: Any = None

    def __repr__(self) -> str:
        return self.cls.__name__

    def context(self, saved: tuple[Any, ...], whole: Tensor | None, parents: Sequence[Any]) -> FunctionContext:
        """A context for one run of `backward` or `jvp`: what that sets on it is gone afterwards.

        `parents` are the nodes that the saved tensors are linked to, or empty.
        """
        ctx = object.__new__(FunctionContext)
        ctx.__dict__.update(self.ctx.__dict__)
        results = self.split(whole) if whole is not None else []
        nodes = [parents[j] if isinstance(j, int) else j for j in self.links] if parents else [None] * len(saved)
        tensors = tuple(
            k if k is None else results[k] if isinstance(k, int) else wrap(k, node)
            for k, node in zip(saved, nodes, strict=True)
        )
        ctx._saved = tensors[: self.count]
        ctx.__dict__.update(zip(self.names, tensors[self.count :], strict=True))
        return ctx

    def split(self, whole: Tensor) -> list[Tensor]:
        """The results that `whole` holds."""
        return _pieces(whole, self.specs) if len(self.specs) > 1 else [whole]

    def join(self, found: Any) -> Tensor:
        """The tangents that `jvp` returned, as one."""
        parts = list(found) if isinstance(found, tuple) else [found]
        if len(parts) != len(self.specs):
            raise ArgumentError(f"{self!r}.jvp returned {len(parts)} tangents for {len(self.specs)} results")
        for k, (part, (shape, dtype)) in enumerate(zip(parts, self.specs, strict=True)):
            parts[k] = wrap(np.zeros(shape, dtype), None) if part is None else asarray(part)
            if parts[k].shape != shape:
                raise ShapeError(
                    f"{self!r}.jvp returned {describe(part)} as the tangent of result {k}, whose shape is {shape}"
                )
        joined: Tensor = parts[0] if len(parts) == 1 else concat([reshape(p, (-1,)) for p in parts])
        return joined

    def backward(self, g: Tensor, y: Tensor | None, saved: tuple[Any, ...], parents: Sequence[Any]) -> tuple[Any, ...]:
        """What the user's `backward` returns, one for every argument."""
        grads: list[Any] = self.split(g)
        if not self.ctx._materialize and g._node is None:  # in a recorded walk a 0 may have a derivative
            grads = [part if np.any(part._data) else None for part in grads]
        found = self.cls.backward(self.context(saved, y, parents), *grads)
        found = found if isinstance(found, tuple) else (found,)
        count = len(self.ctx.needs_input_grad)
        if len(found) > count and not any(g is not None for g in found[count:]):
            found = found[:count]  # one for each argument of `forward`, also for those that the call left out
        if len(found) != count:
            raise ArgumentError(f"{self!r}.backward returned {len(found)} gradients for {count} arguments")
        return found

    def gradient(self, found: Any, i: int, parent: Any) -> Tensor:
        """What `backward` returned for argument `i`, checked."""
        t = wrap(np.zeros(parent.shape, parent.dtype), None) if found is None else asarray(found)
        if t.shape != parent.shape and not _broadcasts(parent.shape, t.shape):
            raise ShapeError(
                f"{self!r}.backward returned {describe(found)} as the gradient of argument {i}, whose shape is "
                f"{parent.shape}"
            )
        return t

    def shared(self, g: Any, i: int, compute: Callable[[], tuple[Any, ...]]) -> Any:
        """Gradient `i` of what `compute` gives for `g`: it runs for the first argument asked for, and serves the rest.

        Of a recorded `g` only a weak reference is kept: the gradients refer to this node, so keeping them would be a
        cycle. One tuple, set at once, so that threads at worst compute twice.
        """
        latest = self._latest
        if latest is None or (latest[0]() if isinstance(g, Tensor) else latest[0]) is not g or i <= latest[2]:
            key = weakref.ref(g, self._forget) if isinstance(g, Tensor) else g
            latest = key, compute(), i
        self._latest = None if i == self.last else (latest[0], latest[1], i)
        return latest[1][i]

    def _forget(self, _: Any) -> None:
        self._latest = None


def _vjp(i: int, g: Any, y: Any, *_args: Any, call: _Call, saved_tensors: tuple[Any, ...]) -> Any:
    if not isinstance(g, Tensor):

        def plainly() -> tuple[Any, ...]:
            with no_grad():
                return call.backward(wrap(g, None), None if y is None else wrap(y, None), saved_tensors, ())

        # A view: the walk must not add into an array that is saved, or returned for two arguments.
        return call.gradient(call.shared(g, i, plainly), i, _args[i])._data[...]

    def recorded() -> tuple[Any, ...]:
        probe = _renewed(g)  # with a node of its own, so that what does not come from it shows
        with enable_grad():
            results = call.backward(probe, y, saved_tensors, _args)
        return tuple(f if f is None else (f, probe._node) for f in results)

    found = call.shared(g, i, recorded)
    if found is None:
        return call.gradient(None, i, _args[i])
    t = call.gradient(found[0], i, _args[i])
    if not _dependents(t, found[1]) and np.any(_whole(t)._data):
        raise _unrecorded(call, i, "a derivative of its result would be 0 without a word")
    return t if is_grad_enabled() else t.detach()  # a batch of cotangents is walked with recording off


def _renewed(t: Tensor) -> Tensor:
    """The same tensor with a node of its own."""
    if isinstance(t, Batched):
        return Batched(_renewed(t.full), t.level)
    return wrap(t._data, new_node(OPS["positive"], (t._node,), (None, None), {}, t.shape, t.dtype))


def _whole(t: Tensor) -> Tensor:
    """A tensor with all examples, where `t` is one of a batch."""
    return _whole(t.full) if isinstance(t, Batched) else t


def _jvp(i: int, t: Any, y: Any, *_args: Any, call: _Call, saved_tensors: tuple[Any, ...]) -> Any:
    linked = isinstance(t, Tensor)
    if call.cls.jvp is not Function.jvp:
        tangent = t if linked else wrap(t, None)
        others = (None if p is None else wrap(np.zeros(p.shape, p.dtype), None) for p in _args)
        tangents = [tangent if j == i else other for j, other in enumerate(others)]
        whole = y if linked or y is None else wrap(y, None)
        with enable_grad() if linked else no_grad():
            pushed = call.join(call.cls.jvp(call.context(saved_tensors, whole, _args if linked else ()), *tangents))
        return pushed if linked else pushed._data
    # backward is linear in g: its derivative by g, transposed, is the derivative of forward.
    shape, dtype = call.specs[0] if len(call.specs) == 1 else _joined(call.specs)
    probe = Leaf(shape, dtype)
    whole = y if linked or y is None else wrap(y, None)
    with enable_grad():
        found = call.backward(wrap(np.zeros(shape, dtype)[()], probe), whole, saved_tensors, _args if linked else ())[i]
        g = call.gradient(found, i, _args[i])
        g = sum_to(g, shape=_args[i].shape)
    if found is None:
        return wrap(np.zeros(shape, dtype), None) if linked else np.zeros(shape, dtype)
    pushed = transposed(g, probe, t)
    if pushed is None:
        raise _unrecorded(call, i, "forward mode cannot be worked out from it; define jvp(ctx, *tangents)")
    return pushed


def transposed(g: Tensor, probe: Leaf, t: Any) -> Any:
    """J t, where `g` was computed from a cotangent that is the leaf `probe`, as Jᵀ times it; None if it was not."""
    wanted = _dependents(g, probe)
    if not wanted:
        return None
    seed = t if t.dtype == g.dtype else OPS["astype"].call(t, dtype=g.dtype)
    create = isinstance(t, Tensor)
    ends, _ = pull({g._node: seed}, create=create, free=False, targets=frozenset((probe,)), wanted=wanted)
    return ends[probe]


def _unrecorded(call: _Call, i: int, consequence: str) -> GraphError:
    return GraphError(
        f"{call!r}.backward: the gradient of argument {i} does not come from the incoming gradients by recorded "
        f"operations (it went through .data, NumPy arrays or no_grad), so {consequence}. Write it with this package's "
        "functions; return None where there is no gradient"
    )


def _dependents(result: Tensor, probe: AnyNode) -> set[AnyNode]:
    """The nodes between `probe` and `result`, both included; empty if there is no way."""
    root = result._node
    if root is None:
        return set()
    between = graph.dependents(graph.newer([root], probe.order), [probe])
    return between if root in between else set()


def _one_by_one(cls: type[Function], args: tuple[Any, ...]) -> Any:
    """Inside `vmap`: each example on its own, then joined."""
    level = max((a.level for a in args if isinstance(a, Batched)), key=lambda found: found.depth)

    def example(a: Any, i: int) -> Any:
        if not isinstance(a, Batched) or a.level is not level:
            return a
        return a.full[i] if level.size else wrap(np.zeros(a.shape, a.dtype), None)

    results = [cls.apply(*(example(a, i) for a in args)) for i in range(max(level.size, 1))]

    def joined(parts: Sequence[Tensor]) -> Tensor:
        return Batched(stack(parts, axis=0)[: level.size], level)

    return tuple(map(joined, zip(*results, strict=True))) if isinstance(results[0], tuple) else joined(results)


def _attributes(ctx: FunctionContext, inputs: list[Any], results: dict[int, int]) -> Sequence[str]:
    """The attributes of `ctx` that are arguments or results: to be saved as those of `save_for_backward` are."""
    if len(vars(ctx)) == _OWN_ATTRIBUTES:
        return ()
    known = {*map(id, inputs), *results}
    return [name for name, value in vars(ctx).items() if isinstance(value, Tensor) and id(value) in known]


def _result(cls: type[Function], y: Any) -> Tensor:
    if not isinstance(y, Tensor | np.ndarray | np.generic):
        raise ArgumentError(f"{cls.__name__}.forward must return Tensors or arrays, not {describe(y)}")
    return asarray(y)


def _joined(specs: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return (sum(math.prod(shape) for shape, _ in specs),), np.result_type(*(dtype for _, dtype in specs))


def _pieces(whole: Tensor, specs: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> list[Tensor]:
    """The results of a function with several, cut from their concatenation."""
    cuts = np.cumsum([0, *(math.prod(shape) for shape, _ in specs)]).tolist()
    return [asarray(reshape(whole[a:b], s), dtype) for a, b, (s, dtype) in zip(cuts, cuts[1:], specs, strict=False)]


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether arrays of `shape` stretch to `target`."""
    last = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(n in (1, m) for n, m in zip(shape, last, strict=True))
