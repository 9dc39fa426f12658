"""`Batched`: what a function inside `vmap` sees of a batch, one example; and how operations on it run on all at once.

A batched tensor shows the shape of one example and holds the whole batch, along the first axis of the tensor `full`.
It has no array to read: asking for one raises `BatchError`, which the functions that run operations catch, to hand
the operation over to `run`. So an operation on examples becomes one ordinary operation on whole batches, by the
rule `batch` of its declaration (see `ops/batching.py`). The graph holds ordinary operations on ordinary arrays, and
their derivatives need no rules for batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import views
from .errors import BatchError, GraphError, operation_error
from .registry import OPS, Op
from .tensor import HookHandle, Tensor, asarray, plain_index

__all__ = [
    "Batched",
    "Level",
    "as_example",
    "current_levels",
    "lift",
    "lower",
    "new_level",
    "varies",
    "within",
]


class Level:
    """One `vmap`: how deep it is nested, how many examples its batch has, and whether it is running."""

    __slots__ = ("depth", "running", "size")

    def __init__(self, depth: int, size: int) -> None:
        self.depth, self.size, self.running = depth, size, True


_levels: ContextVar[tuple[Level, ...]] = ContextVar("tinygrad_nn_levels", default=())
current_levels = _levels.get


@contextmanager
def new_level(size: int) -> Generator[Level]:
    """Inside, a batch of `size` examples is worked on, within those that are worked on already."""
    outer = _levels.get()
    level = Level(len(outer), size)
    token = _levels.set((*outer, level))
    try:
        yield level
    finally:
        level.running = False
        _levels.reset(token)


@contextmanager
def within(levels: tuple[Level, ...]) -> Generator[None]:
    """Inside, as if these batches were worked on, and no others."""
    token = _levels.set(levels)
    try:
        yield
    finally:
        _levels.reset(token)


class Batched(Tensor):
    """One example of a batch, standing for all of them. `full` holds the batch along its first axis."""

    __slots__ = ("full", "level")

    def __init__(self, full: Tensor, level: Level) -> None:
        self.full, self.level, self._sharing = full, level, None

    # A property hides the slot of the same name: here no array can be had.
    @property
    def _data(self) -> Any:
        raise BatchError(run)

    @property
    def _node(self) -> Any:  # type: ignore[override]
        return self.full._node

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis of one example."""
        return self.full.shape[1:]

    @property
    def ndim(self) -> int:
        """The number of axes of one example."""
        return self.full.ndim - 1

    @property
    def size(self) -> int:
        """The number of elements of one example."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype of the elements."""
        return self.full.dtype

    @property
    def nbytes(self) -> int:
        """The bytes that the elements of one example take."""
        return self.size * self.dtype.itemsize

    @property
    def requires_grad(self) -> bool:
        """Whether operations on this tensor are recorded. Not settable."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value != self.requires_grad:
            raise GraphError("requires_grad: cannot be set inside vmap; there use tg.func.grad")

    def detach(self) -> Tensor:
        """The same examples without history."""
        return Batched(self.full.detach(), self.level)

    def backward(self, *args: Any, **kwargs: Any) -> None:
        """Refused: a gradient would belong to all examples."""
        raise GraphError("backward: not inside vmap; there use tg.func.grad, or call backward on the result of vmap")

    def register_hook(self, fn: Callable[[Tensor], Tensor | None]) -> HookHandle:
        """As for any tensor; `fn` sees the gradient of one example."""
        level, levels = self.level, current_levels()

        def on_batch(g: Tensor) -> Tensor | None:
            with within(levels):  # the vmap may have ended
                found = fn(as_example(g, level))
                return None if found is None else lower(found, level)

        return self.full.register_hook(on_batch)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._replace(OPS["index_update"].call(self, value, index=plain_index(index)), "x[index] = value", value)

    def _in_place(self, name: str, other: Any) -> Tensor:
        result = OPS[name].call(self, other)
        if result.shape != self.shape:
            raise operation_error(f"in-place {name}", (self, other), ValueError(f"the result has shape {result.shape}"))
        self._replace(result, f"in-place {name}", other)
        return self

    def _replace(self, result: Tensor, what: str, value: Any) -> None:
        if not isinstance(result, Batched) or result.level is not self.level:
            raise BatchError(run, f"{what}: the value belongs to an inner vmap, the tensor to an outer one")
        if isinstance(self.full, Batched):
            self.full._replace(result.full, what, value)
        else:
            views.write(self.full, result.full, what)

    def unlinked(self) -> Batched:
        """The same examples: no write into them reaches the memory that they came from."""
        full = self.full
        if isinstance(full, Batched):
            full.unlinked()
        else:
            views.unlink(full)
        return self

    def __repr__(self) -> str:
        return f"tensor(one of a batch of {self.level.size}, shape={self.shape}, dtype={self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        raise BatchError(run)

    def __reduce__(self) -> Any:
        raise BatchError(run)


def run(op: Op, args: Sequence[Any], params: dict[str, Any]) -> Tensor:
    """`op` on arguments, or with parameters, that are examples of a batch: as one operation on the batch."""
    found: list[Batched] = []
    _collect(args, found)
    if params:
        _collect(params.values(), found)
    if not found:  # in a slice, or deeper inside
        raise BatchError(run)
    level = found[0].level
    for t in found:
        if t.level.depth > level.depth:
            level = t.level
    if not level.running and level not in current_levels():
        raise BatchError(
            run, f"{op.name}: {found[0]!r} has left its vmap, which has ended; return what is needed outside"
        )
    fulls = [a.full if type(a) is Batched and a.level is level else a for a in args]
    moved = [full is not a for full, a in zip(fulls, args, strict=True)]
    result = op.batch(op, level, fulls, moved, params) if level.size and op.batch is not None else None
    if result is None:
        result = _one_by_one(op, level, args, params)
    return Batched(result if isinstance(result, Tensor) else asarray(result), level)


def varies(params: dict[str, Any], level: Level) -> bool:
    """Whether something in the parameters differs between the examples."""
    found: list[Batched] = []
    _collect(params.values(), found)
    return any(t.level is level for t in found)


def _collect(values: Iterable[Any], found: list[Batched]) -> None:
    """Add the batched tensors among `values`, and in tuples and lists among them, to `found`."""
    for v in values:
        kind = type(v)
        if kind is Batched:
            found.append(v)
        elif kind is tuple or kind is list:
            _collect(v, found)


def _one_by_one(op: Op, level: Level, args: Sequence[Any], params: dict[str, Any]) -> Tensor:
    """Where no rule fits: each example on its own, then joined."""
    count = max(level.size, 1)
    results = []
    for i in range(count):
        one = [_example(a, i, level) for a in args]
        results.append(asarray(op.call(*one, **{k: _plain(_example(v, i, level)) for k, v in params.items()})))
    shapes = {r.shape for r in results}
    if len(shapes) > 1:
        raise BatchError(
            run, f"vmap: {op.name} gives results of different shapes, {sorted(shapes)[:2]}, for different examples"
        )
    joined: Tensor = OPS["stack"].call(*results, axis=0)
    return joined if level.size else joined[:0]


def _example(value: Any, i: int, level: Level) -> Any:
    """Example i of whatever in `value` belongs to the batch."""
    if isinstance(value, tuple):
        return tuple(_example(v, i, level) for v in value)
    if isinstance(value, Batched) and value.level is level:
        return value.full[i] if level.size else asarray(np.zeros(value.shape, value.dtype))
    return value


def _plain(value: Any) -> Any:
    """A parameter as operations expect them: arrays, no tensors (but those that belong to an outer batch)."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value._data if isinstance(value, Tensor) and not isinstance(value, Batched) else value


def lower(t: Tensor, level: Level) -> Tensor:
    """`t` with the batch of `level` as an ordinary first axis; repeated along it if `t` does not depend on it."""
    if isinstance(t, Batched) and t.level.depth > level.depth:
        inner = lower(t.full, level)  # (this batch, t's batch, ...)
        return Batched(OPS["transpose"].call(inner, axes=(1, 0, *range(2, inner.ndim))), t.level)
    if isinstance(t, Batched) and t.level is level:
        return t.full
    return OPS["broadcast_to"].call(t, shape=(level.size, *t.shape))  # type: ignore[no-any-return]


def as_example(t: Tensor, level: Level) -> Tensor:
    """The reverse of `lower`: `t`, whose first axis is the batch of `level`, as an example of it."""
    if isinstance(t, Batched) and t.level.depth > level.depth:
        inner = OPS["transpose"].call(t.full, axes=(1, 0, *range(2, t.full.ndim)))
        return Batched(as_example(inner, level), t.level)
    return Batched(t, level)


def lift(t: Tensor, level: Level) -> Tensor:
    """`t` as an example of the batch of `level`: each example the same if `t` does not depend on it."""
    if isinstance(t, Batched):
        if t.level is level:
            return t
        if t.level.depth > level.depth:
            return Batched(lift(t.full, level), t.level)
    return Batched(OPS["broadcast_to"].call(t, shape=(level.size, *t.shape)), level)
