"""A module as a function of its parameters: `functional_call`, public as `tg.func.functional_call`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock, RLock
from typing import Any
from weakref import WeakKeyDictionary

from .._types import ArrayLike
from ..errors import ArgumentError, describe
from ..tensor import Tensor, asarray
from .module import Module, _holders


def functional_call(module: Module, params: Mapping[str, ArrayLike], *args: Any, **kwargs: Any) -> Any:
    """`module(*args, **kwargs)`, computed with `params` in place of its parameters and buffers of these names.

    This makes a module a function of its parameters, which `grad`, `hessian`, `vmap` and the others can work on. Names
    are those of `named_parameters()` and `named_buffers()`; what is not named stays as it is. A parameter that several
    modules share is replaced in all of them. Afterwards the module is as before, whatever happened.

    While it runs, other threads' `functional_call`s of this module wait, but direct calls of it would see `params`.

    >>> import tinygrad_nn as tg
    >>> net = tg.nn.Linear(2, 1)
    >>> params = {"weight": tg.tensor([[1.0, 2.0]]), "bias": tg.tensor([0.5])}
    >>> tg.func.functional_call(net, params, tg.tensor([[3.0, 4.0]]))
    tensor([[11.5]])
    >>> loss = lambda p: (tg.func.functional_call(net, p, tg.ones((4, 2))) ** 2).sum()
    >>> tg.func.grad(loss)(params)["bias"]
    tensor([28.])
    """
    if not isinstance(module, Module):
        raise TypeError(f"functional_call: takes a Module first, not {describe(module)}")
    if not isinstance(params, Mapping):
        raise TypeError(f"functional_call: params is a dict of names and tensors, not {describe(params)}")
    with _lock_of(module), _in_place_of(_stand_ins(module, params), module):
        return module(*args, **kwargs)


_locks: WeakKeyDictionary[Module, Any] = WeakKeyDictionary()
_locks_lock = Lock()


def _lock_of(module: Module) -> Any:
    with _locks_lock:
        return _locks.setdefault(module, RLock())  # no plain Lock: a module that calls itself so should not hang


def _stand_ins(module: Module, params: Mapping[str, ArrayLike]) -> dict[int, Tensor]:
    """What to put in place of which tensor of the module, by identity."""
    own: dict[str, Tensor] = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    unknown = [name for name in params if name not in own]
    if unknown:
        raise ArgumentError(
            f"functional_call: {type(module).__name__} has no parameter or buffer {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(own) or 'none'}"
        )
    chosen: dict[int, Tensor] = {}
    for name, value in params.items():
        old, new = own[name], asarray(value)
        if new.shape != old.shape:
            raise ArgumentError(f"functional_call: {name} has shape {old.shape}, given {describe(new)}")
        if chosen.get(id(old), new) is not new:
            raise ArgumentError(f"functional_call: {name} is shared under several names, given different tensors")
        chosen[id(old)] = new
    return chosen


@contextmanager
def _in_place_of(chosen: dict[int, Tensor], module: Module) -> Iterator[None]:
    undo: list[tuple[Any, Any, Any]] = []
    try:
        for _, holder in list(_holders(module)):
            slots = vars(holder) if isinstance(holder, Module) else holder
            if isinstance(slots, tuple):
                continue  # it cannot be changed, so whoever holds it gets another one
            for key, value in list(slots.items() if isinstance(slots, dict) else enumerate(slots)):
                new = _replaced(value, chosen)
                if new is not value:
                    undo.append((slots, key, value))
                    slots[key] = new
        yield
    finally:
        for slots, key, value in undo:
            slots[key] = value


def _replaced(value: Any, chosen: dict[int, Tensor]) -> Any:
    if isinstance(value, tuple):
        items = [_replaced(item, chosen) for item in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return chosen.get(id(value), value) if isinstance(value, Tensor) else value
