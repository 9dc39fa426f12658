"""Tensors that share memory, and recorded writes through any of them.

A recorded write (`x[i] = v`, `x += v` where a gradient is wanted) does not overwrite: it makes a new array and a new
node, so that what the graph kept stays as it was. Every other tensor on the same memory must then follow. So a tensor
made as a view remembers of what, and by which operation (its `origin`), and a tensor knows its `views` (weakly): a
write climbs from the view to the tensor that all began with, as one more recorded operation for each step, changes
that, and runs the operations of all living views again.

An array that NumPy code may hold as well (`.data`, `numpy()`, `detach()`, an ndarray that a tensor was made of) cannot
follow. A tensor whose array was handed out so is `exposed`, and so are its views: the new values are written into the
old memory, and what the graph kept of that memory is refused by the walk (see `writes.py`).
"""

from __future__ import annotations

import sys
from typing import Any
from weakref import ref as weak

import numpy as np
from numpy import ndarray

from .errors import GraphError, describe, operation_error
from .graph import Leaf, Node, OpenNode
from .lines import user_line
from .registry import OPS, Op
from .writes import Print, contents, owner, writes


class Views(list[weak[Any]]):
    """Weak references to the views of one tensor; now and then those of views that are gone are taken out."""

    limit = 64

    def clear_up(self) -> None:
        """Take them out, and wait until as many have come again as are left: so each costs no more among many."""
        self[:] = [ref for ref in self if ref() is not None]
        self.limit = 64 + 2 * len(self)


class Sharing:
    """What a tensor knows of others on the same memory. Most know nothing: their `_sharing` is None."""

    origin: tuple[Any, Op, dict[str, Any]] | None = None  # of a view: the tensor, the operation and its parameters
    unrecorded = False  # a view of a tensor with history, made under `no_grad`: recorded writes through it are refused
    views: Views | None = None
    exposed = False


_ALONE = Sharing()


def known(t: Any) -> Sharing:
    """What is known of the memory of `t`, to read."""
    return _ALONE if t._sharing is None else t._sharing


def sharing(t: Any) -> Sharing:
    """What is known of the memory of `t`, to write."""
    if t._sharing is None:
        t._sharing = Sharing()
    return t._sharing  # type: ignore[no-any-return]


def link(view: Any, parent: Any, op: Op, params: dict[str, Any]) -> None:
    """Note that `view`, made by `op` from the tensor `parent`, shares its memory, if it does."""
    array = getattr(parent, "_data", None)  # the first argument may also be an ndarray or a number
    if not isinstance(array, ndarray):
        return
    base = view._data.base
    if base is not array and (base is None or base is not array.base) and owner(view._data) is not owner(array):
        return
    node, above = view._node, parent._node
    found = view._sharing = Sharing()
    if node is None and above is not None:  # made under no_grad: it must not keep the graph alive
        expose(parent)
        found.unrecorded = found.exposed = True
        return
    found.origin = parent, op, params
    of_parent = sharing(parent)
    if of_parent.exposed:
        found.exposed = True
        _open(node)
    views = of_parent.views
    if views is None:
        views = of_parent.views = Views()
    views.append(weak(view))
    if len(views) > views.limit:
        views.clear_up()


def expose(t: Any) -> None:
    """Note that the memory of `t` is known outside: a recorded write must reach it, and what views it is compared."""
    base = _base(t)
    if known(base).exposed and (base._node is None or base._node.open):
        return  # and so are its views: later ones are made so by `link`
    found = [base]
    while found:
        t = found.pop()
        sharing(t).exposed = True
        _open(t._node)
        found += _living(t)


def _living(t: Any) -> list[Any]:
    """The views of `t` that are still there, and still its views."""
    found = [view for ref in known(t).views or () if (view := ref()) is not None]
    return [view for view in found if (origin := known(view).origin) is not None and origin[0] is t]


def _open(node: Node | Leaf | None) -> None:
    if type(node) is Leaf:
        node.open = True
    elif node is not None:
        node.__class__ = OpenNode


def reclaim(t: Any) -> None:
    """Note that the memory of the leaf `t`, once handed out, is known nowhere else any more, if that is so."""
    if _references(t) == _ONE and t._data.base is None and type(t._node) is Leaf and known(t).origin is None:
        t._node.open, t._sharing = False, None


def _references(t: Any) -> int:
    """How many hold the array of `t`; views of it hold it, too."""
    return sys.getrefcount(t._data)


class _Single:
    def __init__(self) -> None:
        self._data = np.zeros(1)


_ONE = _references(_Single())


def part(t: Any) -> None:
    """Note that `t` gets another array: another tensor takes its place among those that share the old one."""
    if t._sharing is None:
        return
    views, origin = _living(t), t._sharing.origin
    if views:
        stand_in = object.__new__(type(t))
        stand_in._data, stand_in._node, stand_in._sharing = t._data, t._node, t._sharing
        for view in views:
            view._sharing.origin = stand_in, *view._sharing.origin[1:]  # which keeps it alive
        if origin is not None and (siblings := known(origin[0]).views) is not None:
            siblings.append(weak(stand_in))
    t._sharing = None


def unlink(view: Any) -> None:
    """Note that writes through `view` are no business of the tensor that it was made from."""
    if view._sharing is not None:
        view._sharing.origin, view._sharing.unrecorded = None, False


def foreign(argument: Any) -> bool:
    """Whether NumPy code may write into the memory of an argument."""
    if isinstance(argument, ndarray):
        return True
    node = getattr(argument, "_node", None)
    if node is not None:
        return bool(node.open)
    sharing = getattr(argument, "_sharing", None)
    return sharing is not None and sharing.exposed


def guard(node: Node, outside: int, exact: bool = False) -> None:
    """Have the walk compare what a new node keeps of memory that NumPy code may write into; `exact`, all it keeps.

    `outside` says of which arguments it may: its lowest bit is that of the first.
    """
    found: Print = []
    if outside or exact:
        mask = -1 if exact else outside << 1  # the result comes first
        for i, kept in enumerate(node.saved or ()):
            if mask >> i & 1 and isinstance(kept, ndarray):
                found.append((i, kept, contents(kept, exact)))
    if node.params and (exact or node.op.takes_arrays):
        for name, value in node.params.items():
            if exact or name != "residual":  # that is of the operation's own making
                for kept in value if type(value) is tuple else (value,):
                    if isinstance(kept, ndarray):
                        found.append((name, kept, contents(kept, exact)))
    if found:
        node.watched().kept = found


def _base(t: Any) -> Any:
    """The tensor that a view, or a view of a view, began with; of any other tensor, itself."""
    while (origin := known(t).origin) is not None:
        t = origin[0]
    return t


def same_place(t: Any, index: Any, value: Any) -> bool:
    """Whether `value` is the view `t[index]` itself, as in the second half of `t[index] += ...`."""
    if not hasattr(value, "_sharing"):
        return False
    origin = known(value).origin
    if origin is None or origin[0] is not t or origin[1].name != "getitem" or type(_base(t)._node) is Leaf:
        return False
    there = np.asarray(t._data[index])
    here = value._data
    return bool(there.__array_interface__ == here.__array_interface__)  # memory, shape and strides


def write(t: Any, result: Any, what: str) -> None:
    """Make `result` the value and the history of `t`, and of all tensors that share memory with it.

    `what` names the write in errors. Nothing is changed when it is refused.
    """
    if isinstance(t._data, np.ndarray) and not t._data.flags.writeable:
        raise operation_error(what, (t,), ValueError("its array is read-only, as those of broadcast_to are"))
    base, value = t, result
    _refuse_leaf(t, what)
    while (origin := known(base).origin) is not None:
        value = _put_back(base, origin, value, what)
        base = origin[0]
        _refuse_leaf(base, what, t, "views")
    if known(base).unrecorded:
        raise GraphError(
            f"{what}: {describe(t)} views a tensor that requires a gradient, but was made without recording, so "
            "gradients through that tensor would not know of the write. Write under no_grad(), too, or make the view "
            "outside of it."
        )
    views = _views_of(base, what)
    array = base._data
    if known(base).exposed and isinstance(array, np.ndarray):
        array[...] = value._data
        writes.note(array, what, user_line())
        base._node = value._node
        expose(base)
    else:
        base._data, base._node = value._data, value._node
    for view in views:
        parent, op, params = view._sharing.origin
        again = op.call(parent, **params)
        view._data, view._node = again._data, again._node


def _put_back(view: Any, origin: tuple[Any, Op, dict[str, Any]], value: Any, what: str) -> Any:
    """What the tensor that `view` was made from becomes when the view becomes `value`."""
    parent, op, params = origin
    if op.name == "getitem":
        return OPS["index_update"].call(parent, value, **params)
    if op.kind == "linear" and not op.variadic and view.size == parent.size:
        return op.vjps[0](value, None, parent, **params)  # the elements in another order: back into the old one
    raise GraphError(
        f"{what}: {describe(view)} shares memory with {describe(parent)} through {op.name}, and a write through that "
        "cannot be recorded. Write into a copy, or into the tensor that it was made from."
    )


def _views_of(base: Any, what: str) -> list[Any]:
    """The living views of `base`, and theirs, each after what it was made from; refused if one cannot be made again."""
    found, stack = [], [base]
    while stack:
        for view in _living(stack.pop()):
            _refuse_leaf(view, what, base, "is viewed by")
            op = view._sharing.origin[1]
            if not hasattr(op, "call"):
                raise GraphError(
                    f"{what}: {describe(view)}, the result of {op.name}, shares memory with {describe(base)}, and "
                    "would have to follow the write, which cannot be recorded. Write into a copy."
                )
            found.append(view)
            stack.append(view)
    return found


def _refuse_leaf(t: Any, what: str, written: Any = None, relation: str = "") -> None:
    """Raise if `t`, which a recorded write (into `written`) changes, is a leaf."""
    if type(t._node) is Leaf:
        which = "this is" if written is None else f"{describe(written)} {relation} {describe(t)},"
        raise GraphError(
            f"{what}: {which} a leaf that requires a gradient, and its old value would be lost to backward. "
            "Write under no_grad(), or into a copy."
        )
