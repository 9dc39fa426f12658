"""Hooks of a module: functions that see, and may replace, what goes in and out of it, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, describe
from ..function import Function
from ..modes import is_grad_enabled
from ..tensor import HookHandle, Tensor
from ..tree import flatten, unflatten
from ..writes import next_order

if TYPE_CHECKING:
    from .module import Module

Hook = Callable[..., Any]


class Hooks:
    """The hooks of one module, each kind in the order they are called: (function, whether it takes keywords)."""

    __slots__ = ("forward_pre", "forward", "backward_pre", "backward")

    def __init__(self) -> None:
        self.forward_pre: dict[int, tuple[Hook, bool]] = {}
        self.forward: dict[int, tuple[Hook, bool]] = {}
        self.backward_pre: dict[int, tuple[Hook, bool]] = {}
        self.backward: dict[int, tuple[Hook, bool]] = {}


def add(hooks: dict[int, tuple[Hook, bool]], hook: Hook, prepend: bool, with_kwargs: bool = False) -> HookHandle:
    """Put a hook at the end, or with `prepend` at the beginning."""
    key = next_order()
    later = dict(hooks) if prepend else {}
    if prepend:
        hooks.clear()
    hooks[key] = hook, with_kwargs
    hooks.update(later)
    return HookHandle(hooks, key)


def call(module: Module, hooks: Hooks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`module.forward(*args, **kwargs)` with its hooks."""
    for hook, with_kwargs in list(hooks.forward_pre.values()):
        if with_kwargs:
            changed = hook(module, args, kwargs)
            if changed is not None:
                if not isinstance(changed, tuple) or len(changed) != 2:
                    raise ArgumentError(
                        f"forward pre-hook of {type(module).__name__}: with_kwargs means to return None or (args, "
                        f"kwargs), not {describe(changed)}"
                    )
                args, kwargs = changed
        else:
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    watch = None
    if (hooks.backward or hooks.backward_pre) and is_grad_enabled():
        watch = _Watch(module, hooks)
        args = watch.inputs(args)
    result = module.forward(*args, **kwargs)
    for hook, with_kwargs in list(hooks.forward.values()):
        changed = hook(module, args, kwargs, result) if with_kwargs else hook(module, args, result)
        if changed is not None:
            result = changed
    return result if watch is None else watch.outputs(result)


class _Watch:
    """One call of a module whose gradients are looked at, where they enter it and where they leave it."""

    def __init__(self, module: Module, hooks: Hooks) -> None:
        self.module = module
        self.pre = [hook for hook, _ in hooks.backward_pre.values()]
        self.post = [hook for hook, _ in hooks.backward.values()]
        self.places: list[int] = []  # of the arguments that require a gradient, among all
        self.out_places: list[int] = []
        self.count = self.out_count = 0
        self.grad_output: tuple[Any, ...] | None = None

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, with their gradients looked at."""
        args, self.places, self.count = _through(HookedArguments, self, args)
        return args

    def outputs(self, result: Any) -> Any:
        """The result, with its gradients looked at."""
        result, self.out_places, self.out_count = _through(HookedResults, self, result)
        return result

    def entered(self, grads: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        """The gradients of the results have come."""
        full = _spread(grads, self.out_places, self.out_count)
        for hook in self.pre:
            full = self._replaced("full backward pre-hook", full, hook(self.module, full))
        if self.post:
            self.grad_output = full
            if not self.places:
                self.left(())
        return tuple(full[i] for i in self.out_places)

    def left(self, grads: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
        """The gradients of the arguments are worked out."""
        if self.grad_output is None:
            return grads  # they came another way than through the results
        full = _spread(grads, self.places, self.count)
        for hook in self.post:
            full = self._replaced("full backward hook", full, hook(self.module, full, self.grad_output))
        if any(isinstance(g, Tensor) and g.requires_grad for g in self.grad_output):
            self.grad_output = None  # a recorded walk: it would refer to this very graph
        return tuple(full[i] for i in self.places)

    def _replaced(self, what: str, full: tuple[Any, ...], returned: Any) -> tuple[Any, ...]:
        if returned is None:
            return full
        new = returned if isinstance(returned, tuple) else (returned,)
        if len(new) != len(full):
            raise ArgumentError(
                f"{what} of {type(self.module).__name__}: returned {len(new)} gradients in place of {len(full)}"
            )
        return new


class HookedArguments(Function):
    """The arguments of a module, unchanged. (Error messages show this name.)"""

    @staticmethod
    def forward(ctx: Any, watch: _Watch, *xs: Tensor) -> Any:
        """Pass them on."""
        ctx.watch = watch
        return xs if len(xs) > 1 else xs[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Show their gradients, and pass on what the hooks make of them."""
        return None, *ctx.watch.left(grads)


class HookedResults(HookedArguments):
    """The results of a module, unchanged."""

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Show their gradients, and pass on what the hooks make of them."""
        return None, *ctx.watch.entered(grads)


def _through(kind: type[Function], watch: _Watch, tree: Any) -> tuple[Any, list[int], int]:
    """A tree whose Tensors that require a gradient went through `kind`; their places, and how many leaves there are."""
    leaves, structure = flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
    if places:
        passed = kind.apply(watch, *(leaves[i] for i in places))
        for i, t in zip(places, passed if isinstance(passed, tuple) else (passed,), strict=True):
            leaves[i] = t
    return unflatten(structure, leaves), places, len(leaves)


def _spread(grads: tuple[Any, ...], places: list[int], count: int) -> tuple[Any, ...]:
    full: list[Any] = [None] * count
    for i, g in zip(places, grads, strict=True):
        full[i] = g
    return tuple(full)
