"""`vmap`: a function written for one example, run on a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .batched import Batched, Level, lower, new_level
from .errors import ArgumentError, describe
from .ops.shape import moveaxis, normalize_axis
from .tensor import Tensor, asarray
from .tree import flatten, is_numbers, unflatten

__all__ = ["vmap"]


def vmap(fn: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """A function that runs `fn`, written for one example, on a batch of them: as a loop would, at NumPy speed.

    `in_axes` says which axis of each argument counts the examples: a number for all, or a tuple with one entry per
    argument, each a number, None (the argument is the same for all examples) or, for an argument that is a nested
    list, tuple or dict, such a structure of numbers and None. `out_axes` says in the same way where the examples are
    to be in the result. Keyword arguments are the same for all examples.

    Inside, a tensor shows the shape of one example. Its values cannot be read (`if x > 0:` is a `BatchError`; use
    `where`). Random numbers drawn inside are the same for all examples. `grad` and the other transforms work inside
    and outside: `vmap(grad(loss), in_axes=(None, 0, 0))` gives a gradient for each sample.

    >>> import tinygrad_nn as tg
    >>> x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> tg.func.vmap(lambda a, b: (a * b).sum())(x, x)
    tensor([ 5., 25.])
    >>> tg.func.vmap(tg.func.grad(lambda w, x: (w * x) ** 2), in_axes=(None, 0))(2.0, tg.tensor([1.0, 3.0]))
    tensor([ 4., 36.])
    """

    def batched(*args: Any, **kwargs: Any) -> Any:
        if not args:
            raise ArgumentError("vmap: the function is called without arguments, so there is no batch")
        places = tuple(in_axes) if isinstance(in_axes, list | tuple) else (in_axes,) * len(args)
        if len(places) != len(args):
            raise ArgumentError(f"vmap: in_axes {in_axes!r} does not fit {len(args)} arguments")
        # as for `grad`, a list of plain numbers is an array
        args = tuple(asarray(a) if _is_axis(p) and is_numbers(a) else a for a, p in zip(args, places, strict=True))
        leaves, structure = flatten(args)
        axes = _axes_for("in_axes", places, args)
        tensors = [x if axis is None else asarray(x) for x, axis in zip(leaves, axes, strict=True)]
        with new_level(_batch_size(tensors, axes)) as level:
            examples = [x if axis is None else _example(x, axis, level) for x, axis in zip(tensors, axes, strict=True)]
            results, form = flatten(fn(*unflatten(structure, examples), **kwargs))
            ends = _axes_for("out_axes", out_axes, unflatten(form, results))
            found = [_whole(y, axis, level) for y, axis in zip(results, ends, strict=True)]
        return unflatten(form, found)

    return batched


def _axes_for(name: str, axes: Any, tree: Any) -> list[int | None]:
    """One axis for each leaf of `tree`: `axes` has its structure, or stands higher up for all leaves below."""
    if axes is None or _is_axis(axes):
        return [axes] * len(flatten(tree)[0])
    if type(axes) is not type(tree) or len(axes) != len(tree):
        raise ArgumentError(f"vmap: {name} {axes!r} does not fit {_shape_of_tree(tree)}")
    if isinstance(axes, dict):
        if set(axes) != set(tree):
            raise ArgumentError(f"vmap: {name} has the keys {sorted(axes)}, the argument {sorted(tree)}")
        pairs = [(axes[key], tree[key]) for key in tree]
    else:
        pairs = list(zip(axes, tree, strict=True))
    return [axis for a, t in pairs for axis in _axes_for(name, a, t)]


def _is_axis(place: Any) -> bool:
    return isinstance(place, int | np.integer)


def _shape_of_tree(tree: Any) -> str:
    return f"a {type(tree).__name__} of {len(tree)}" if isinstance(tree, list | tuple | dict) else describe(tree)


def _batch_size(tensors: list[Any], axes: list[int | None]) -> int:
    sizes = {}
    for i, (x, axis) in enumerate(zip(tensors, axes, strict=True)):
        if axis is not None:
            sizes[i] = x.shape[normalize_axis(axis, x.ndim, "vmap")]
    if not sizes:
        raise ArgumentError("vmap: in_axes is None for every argument, so there is no batch")
    if len(set(sizes.values())) > 1:
        given = ", ".join(f"{describe(tensors[i])} along axis {axes[i]}" for i in sizes)
        raise ArgumentError(f"vmap: the arguments have batches of different sizes: {given}")
    size: int = next(iter(sizes.values()))
    return size


def _example(x: Tensor, axis: int, level: Level) -> Tensor:
    return Batched(moveaxis(x, axis, 0), level).unlinked()


def _whole(y: Any, axis: int | None, level: Level) -> Tensor:
    """A result with its batch along `axis`, or as it is for None, if it is the same for all examples."""
    if isinstance(y, np.ndarray | np.generic):  # as it may be where it depends on no Tensor
        y = asarray(y)
    if not isinstance(y, Tensor):
        raise ArgumentError(f"vmap: the function must return a Tensor, or a tree of them, not {describe(y)}")
    if axis is not None:
        return moveaxis(lower(y, level), 0, normalize_axis(axis, y.ndim + 1, "vmap: out_axes"))  # type: ignore[no-any-return]
    if isinstance(y, Batched) and (y.level is level or not y.level.running):
        raise ArgumentError("vmap: out_axes is None for a result that differs between the examples")
    return y
