"""Trees: nested lists, tuples and dicts, taken apart into their leaves and put together again.

Containers are `list`, `tuple`, named tuples, `dict` and `OrderedDict`; everything else is a leaf. A `Structure` is what
remains of a tree without its leaves: two trees have the same shape when their structures are equal.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .errors import ArgumentError

Path = tuple[Any, ...]  # the keys and positions that lead from the root to a leaf


@dataclass(frozen=True, slots=True)
class Structure:
    """A tree without its leaves: the container's type, its keys, and the structures below (`type` None: a leaf)."""

    type: type[Any] | None
    keys: tuple[Any, ...]
    children: tuple[Structure, ...]
    leaf_count: int


LEAF = Structure(None, (), (), 1)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of `tree`, in order, and its structure.

    >>> from tinygrad_nn.tree import flatten
    >>> flatten({"w": [1, 2], "b": (3,)})[0]
    [1, 2, 3]
    """
    leaves: list[Any] = []
    return leaves, _structure(tree, leaves)


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The tree of this structure with these leaves: the inverse of `flatten`.

    >>> from tinygrad_nn.tree import flatten, unflatten
    >>> leaves, structure = flatten({"w": [1, 2], "b": (3,)})
    >>> unflatten(structure, [10 * leaf for leaf in leaves])
    {'w': [10, 20], 'b': (30,)}
    """
    leaves = list(leaves)
    if len(leaves) != structure.leaf_count:
        raise ArgumentError(f"unflatten: {len(leaves)} leaves given for a structure of {structure.leaf_count}")
    return _build(structure, iter(leaves))


def paths(structure: Structure) -> list[Path]:
    """The path of every leaf, in the order of `flatten`.

    >>> from tinygrad_nn.tree import flatten, paths
    >>> paths(flatten({"w": [1, 2], "b": (3,)})[1])
    [('w', 0), ('w', 1), ('b', 0)]
    """
    if structure.type is None:
        return [()]
    steps = zip(structure.keys, structure.children, strict=True)
    return [(key, *rest) for key, child in steps for rest in paths(child)]


def tree_map(fn: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """A tree of `fn` applied to the leaves of `tree` and, at the same places, of `others`, which must match it.

    >>> from tinygrad_nn.tree import tree_map
    >>> tree_map(lambda a, b: a + b, {"w": [1, 2]}, {"w": [10, 20]})
    {'w': [11, 22]}
    """
    leaves, structure = flatten(tree)
    columns = [leaves]
    for i, other in enumerate(others, 2):
        more, its_structure = flatten(other)
        if its_structure != structure:
            raise ArgumentError(f"tree_map: tree {i} has another structure than the first: {other!r:.200}")
        columns.append(more)
    return _build(structure, map(fn, *columns))


def is_numbers(tree: Any) -> bool:
    """Whether this is a list or tuple of plain numbers, nested or not: an array, rather than a tree of arrays.

    >>> from tinygrad_nn.tree import is_numbers
    >>> is_numbers([[1.0, 2.0]])
    True
    """
    return isinstance(tree, list | tuple) and not any(hasattr(leaf, "dtype") for leaf in flatten(tree)[0])


def describe_path(path: Path) -> str:
    """A path for people: `['model']['0.weight'][3]`, or "the root" for the tree itself."""
    return "".join(f"[{key!r}]" for key in path) or "the root"


def _structure(tree: Any, leaves: list[Any]) -> Structure:
    kind = type(tree)
    if kind is dict or kind is OrderedDict:
        keys, values = tuple(tree), tree.values()
    elif kind is list or kind is tuple or (issubclass(kind, tuple) and hasattr(kind, "_fields")):
        keys, values = tuple(range(len(tree))), tree
    else:
        leaves.append(tree)
        return LEAF
    before = len(leaves)
    children = tuple([_structure(value, leaves) for value in values])
    return Structure(kind, keys, children, len(leaves) - before)


def _build(structure: Structure, leaves: Iterator[Any]) -> Any:
    kind = structure.type
    if kind is None:
        return next(leaves)
    values = [_build(child, leaves) for child in structure.children]
    if kind is list:
        return values
    if issubclass(kind, dict):
        return kind(zip(structure.keys, values, strict=True))
    return tuple(values) if kind is tuple else kind(*values)
