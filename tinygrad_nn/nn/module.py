"""`Module` and `Parameter`: networks as plain objects.

A module is an object with a `forward` method whose attributes are what it is made of. Nothing is registered: setting
or reading an attribute is ordinary Python, but that a plain tensor cannot take a parameter's place. When its
parameters are asked for, they are found by walking the attributes in the order they were set, through modules,
parameters, lists, tuples and dicts. Parameters of the module itself come before those of the modules in it, as in
PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from .._types import Array, ArrayLike, DTypeLike
from ..errors import ArgumentError, DTypeError, describe
from ..tensor import HookHandle, Tensor, fresh, held, to_array
from ..writes import writes
from . import hooks


class Parameter(Tensor):
    """A tensor that a module owns and an optimizer trains: it requires a gradient, and modules list it.

    The array is copied, so that training never writes into an array that someone else uses.

    >>> import tinygrad_nn as tg
    >>> tg.nn.Parameter([1.0, 2.0])
    Parameter([1., 2.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = True) -> None:
        self._data = held(np.array(to_array(data, dtype), order="C"))
        self._node = self._sharing = None
        self.requires_grad = requires_grad

    def __repr__(self) -> str:
        return super().__repr__().replace("tensor", "Parameter", 1).replace("\n       ", "\n          ")


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` passed over."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """The base of all networks and layers: subclass it, set the parts as attributes, write `forward`.

    >>> import tinygrad_nn as tg
    >>> class Net(tg.nn.Module):
    ...     def __init__(self):
    ...         self.hidden = tg.nn.Linear(2, 3)
    ...         self.scale = tg.nn.Parameter(1.0)
    ...
    ...     def forward(self, x):
    ...         return self.scale * self.hidden(x).tanh()
    >>> net = Net()
    >>> [name for name, _ in net.named_parameters()]
    ['scale', 'hidden.weight', 'hidden.bias']
    >>> net(tg.ones((5, 2))).shape
    (5, 3)
    """

    training = True  # False after eval()
    _hooks: hooks.Hooks | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(vars(self).get(name), Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"{type(self).__name__}: {name!r} is a Parameter, and {describe(value)} in its place would not be "
                f"trained or saved; assign Parameter(value) or None, or write its values: {name}.data[...] = value"
            )
        super().__setattr__(name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result of `forward`."""
        if self._hooks is not None:
            return hooks.call(self, self._hooks, args, kwargs)
        return self.forward(*args, **kwargs) if kwargs else self.forward(*args)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes. Subclasses define it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward method, so it cannot be called")

    # -- hooks --------------------------------------------------------------------------------------------------------

    def _all_hooks(self) -> hooks.Hooks:
        if self._hooks is None:
            self._hooks = hooks.Hooks()
        return self._hooks

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Have `hook(module, args)` called before each `forward`. What it returns, if not None, replaces the arguments.

        With `with_kwargs` it is `hook(module, args, kwargs)`, and returns None or (args, kwargs). Hooks are called in
        the order they were registered, with `prepend` before those that are there. The handle takes it off again.

        >>> import tinygrad_nn as tg
        >>> double = tg.nn.Identity()
        >>> handle = double.register_forward_pre_hook(lambda module, args: 2 * args[0])
        >>> double(tg.tensor(3.0))
        tensor(6.)
        >>> handle.remove()
        """
        return hooks.add(self._all_hooks().forward_pre, hook, prepend, with_kwargs)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> HookHandle:
        """Have `hook(module, args, output)` called after each `forward`. What it returns, if not None, replaces it.

        With `with_kwargs` it is `hook(module, args, kwargs, output)`.

        >>> import tinygrad_nn as tg
        >>> net = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.ReLU())
        >>> seen = {}
        >>> for name, part in net.named_children():
        ...     handle = part.register_forward_hook(lambda m, args, y, name=name: seen.update({name: y.shape}))
        >>> y = net(tg.ones((5, 2)))
        >>> seen
        {'0': (5, 3), '1': (5, 3)}
        """
        return hooks.add(self._all_hooks().forward, hook, prepend, with_kwargs)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Have `hook(module, grad_output)` called when the gradients of the module's results have been worked out.

        `grad_output` is a tuple, one entry for each result. What it returns, if not None, replaces them.

        >>> import tinygrad_nn as tg
        >>> layer = tg.nn.Identity()
        >>> handle = layer.register_full_backward_pre_hook(lambda module, grad_output: 10 * grad_output[0])
        >>> x = tg.tensor(1.0, requires_grad=True)
        >>> layer(x).backward()
        >>> x.grad
        tensor(10.)
        """
        return hooks.add(self._all_hooks().backward_pre, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> HookHandle:
        """Have `hook(module, grad_input, grad_output)` called when the gradients of its arguments are worked out.

        `grad_input` is a tuple, one entry for each positional argument, None where that requires no gradient. What
        the hook returns, if not None, replaces it.

        >>> import tinygrad_nn as tg
        >>> layer = tg.nn.ReLU()
        >>> handle = layer.register_full_backward_hook(lambda m, grad_in, grad_out: print(grad_in[0], grad_out[0]))
        >>> layer(tg.tensor([-1.0, 1.0], requires_grad=True)).sum().backward()
        tensor([0., 1.]) tensor([1., 1.])
        """
        return hooks.add(self._all_hooks().backward, hook, prepend)

    # -- what it is made of -------------------------------------------------------------------------------------------

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """This module (its name is `prefix`) and all in it, with their paths; one used twice is listed once."""
        for path, holder in _holders(self, prefix, remove_duplicate):
            if isinstance(holder, Module):
                yield path, holder

    def modules(self) -> Iterator[Module]:
        """This module and all in it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that this one is made of, directly or in a list, tuple or dict, with their names."""
        return _children(self, remove_duplicate=True)

    def children(self) -> Iterator[Module]:
        """The modules that this one is made of, directly or in a list, tuple or dict."""
        return (module for _, module in self.named_children())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their paths, such as "hidden.0.weight"; a shared one is listed once, where first met."""
        met: set[int] = set()
        for path, holder in _holders(self, prefix, remove_duplicate, recurse):
            if not recurse and isinstance(holder, Module) and holder is not self:
                continue
            for name, value in _entries(holder):
                if isinstance(value, Parameter) and not (remove_duplicate and id(value) in met):
                    met.add(id(value))
                    yield _join(path, name), value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once, in the order they were defined: what an optimizer is given."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Set the attribute `name` to a tensor that is state but not trained, such as a running mean.

        It moves with `to` and, if `persistent`, is part of `state_dict`.

        >>> import tinygrad_nn as tg
        >>> module = tg.nn.Identity()
        >>> module.register_buffer("mean", tg.zeros(2))
        >>> list(module.state_dict())
        ['mean']
        """
        if tensor is not None and (not isinstance(tensor, Tensor) or isinstance(tensor, Parameter)):
            raise TypeError(
                f"register_buffer: {name!r} must be a Tensor (no Parameter) or None, not {describe(tensor)}; "
                "tg.tensor makes one of an array"
            )
        if not name.isidentifier():
            raise ArgumentError(f"register_buffer: {name!r} cannot be the name of an attribute")
        vars(self).setdefault("_buffers", {})[name] = persistent
        setattr(self, name, tensor)

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The buffers with their paths; a shared one is listed once."""
        met: set[int] = set()
        for path, module in self.named_modules(prefix, remove_duplicate) if recurse else [(prefix, self)]:
            for name, value, _ in _own_buffers(module):
                if not (remove_duplicate and id(value) in met):
                    met.add(id(value))
                    yield _join(path, name), value

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def apply(self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every module in this one, then on itself. Returns the module.

        >>> import tinygrad_nn as tg
        >>> def zero_biases(module):
        ...     if isinstance(module, tg.nn.Linear):
        ...         tg.nn.init.zeros_(module.bias)
        >>> net = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.ReLU()).apply(zero_biases)
        >>> net[0].bias
        Parameter([0., 0., 0.], requires_grad=True)
        """
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # -- its state ----------------------------------------------------------------------------------------------------

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Parameters and persistent buffers under each of their names, so that shared ones come up twice."""
        for path, holder in _holders(self, prefix, remove_duplicate=False):
            for name, value in _entries(holder):
                if isinstance(value, Parameter):
                    yield _join(path, name), value
            if isinstance(holder, Module):
                for name, value, persistent in _own_buffers(holder):
                    if persistent:
                        yield _join(path, name), value

    def state_dict(self, prefix: str = "") -> dict[str, Array]:
        """Parameters and persistent buffers by path, as a snapshot: the arrays are copies.

        Names, order and layouts are PyTorch's, so `{k: torch.from_numpy(v) for k, v in net.state_dict().items()}` loads
        into the same network there.

        >>> import tinygrad_nn as tg
        >>> {name: array.shape for name, array in tg.nn.Linear(2, 3).state_dict().items()}
        {'weight': (3, 2), 'bias': (3,)}
        """
        state: dict[str, Array] = {}
        for name, value in self._state(prefix):
            if name in state:
                raise ArgumentError(f"state_dict: two parts of {type(self).__name__} are called {name!r}")
            state[name] = value._array().copy()
        return state

    def load_state_dict(self, state_dict: Mapping[str, ArrayLike], strict: bool = True) -> LoadResult:
        """Write the arrays of `state_dict` into the parameters and buffers of the same names.

        Shapes and dtypes must be the same. With `strict` the names must be the same as well; without, names that only
        one side has are passed over and returned. If anything does not fit, the error lists all of it and the module
        stays as it was.

        >>> import tinygrad_nn as tg
        >>> a, b = tg.nn.Linear(2, 3), tg.nn.Linear(2, 3)
        >>> b.load_state_dict(a.state_dict())
        LoadResult(missing_keys=[], unexpected_keys=[])
        >>> bool((a.weight == b.weight).all())
        True
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"load_state_dict: takes names and their arrays, as state_dict gives them, not {describe(state_dict)}; "
                "read a file with tinygrad_nn.load first"
            )
        own = dict(self._state())
        missing = [name for name in own if name not in state_dict]
        unexpected = [name for name in state_dict if name not in own]
        faults = []
        if strict:
            faults += [f"missing: {name} {describe(own[name])}" for name in missing]
            faults += [f"unexpected: {name} {describe(state_dict[name])}" for name in unexpected]
        loaded: list[tuple[Array, Array]] = []
        for name, target in own.items():
            if name not in state_dict:
                continue
            given = state_dict[name]
            source = given._array() if isinstance(given, Tensor) else np.asarray(given)
            if source.shape != target.shape:
                faults.append(f"wrong shape: {name} is {target.shape}, given {source.shape}")
            elif source.dtype != target.dtype:
                how = f"astype({str(target.dtype)!r}) of the array, or to() of the module"
                faults.append(f"wrong dtype: {name} is {target.dtype}, given {source.dtype} (convert with {how})")
            elif not target._array().flags.writeable:
                faults.append(f"cannot be written: {name} is a read-only array")
            else:
                loaded.append((target._array(), source))
        if faults:
            raise ArgumentError(
                f"load_state_dict: the state does not fit {type(self).__name__}; nothing was loaded\n  "
                + "\n  ".join(faults)
            )
        for array, source in loaded:
            array[...] = source
            writes.note(array, "load_state_dict")
        return LoadResult(missing, unexpected)

    def train(self, mode: bool = True) -> Self:
        """Set `training` of this module and all in it: what Dropout goes by. Returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """`train(False)`: for using the network rather than training it."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the parameters are trained: False freezes them. Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = requires_grad
        return self

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, dtype: DTypeLike) -> Self:
        """Convert floating parameters (with their gradients) and buffers to a floating dtype. Returns the module.

        >>> import tinygrad_nn as tg
        >>> tg.nn.Linear(2, 3).to("float64").weight.dtype
        dtype('float64')
        """
        try:
            chosen = np.dtype(dtype)
        except TypeError:
            device = isinstance(dtype, str) and dtype.partition(":")[0] in ("cpu", "cuda", "mps")
            hint = "; arrays are in the processor's memory, there is no other device" if device else ""
            raise DTypeError(f"to: {describe(dtype)} is no dtype; use float16, float32 or float64{hint}") from None
        if chosen.kind != "f":
            raise DTypeError(f"to: {chosen} is not a floating dtype; use float16, float32 or float64")
        for tensor in [*self.parameters(), *self.buffers()]:
            if tensor.dtype.kind == "f" and tensor.dtype != chosen:
                grad = tensor.grad
                tensor._set_array(tensor._array().astype(chosen))
                if grad is not None:
                    tensor.grad = fresh(grad._array().astype(chosen))
        return self

    def half(self) -> Self:
        """`to("float16")`."""
        return self.to(np.float16)

    def float(self) -> Self:
        """`to("float32")`."""
        return self.to(np.float32)

    def double(self) -> Self:
        """`to("float64")`."""
        return self.to(np.float64)

    # -- for people ---------------------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands between the brackets in the printed form. Subclasses define it."""
        return ""

    def __repr__(self) -> str:
        lines: list[tuple[str, int]] = []
        _draw(self, "", 0, lines, set(), (id(self),))
        total = sum(count for _, count in lines)
        counted = f"{total:,} parameter{'' if total == 1 else 's'}"
        if len(lines) == 1:
            return lines[0][0] + (f"  {counted}" if total else "")
        width = max([len(text) for text, count in lines if count], default=0)
        rows = [f"{text:{width}}  {count:>{len(f'{total:,}')},}" if count else text for text, count in lines]
        return "\n".join([*rows, counted])


# -- walking ----------------------------------------------------------------------------------------------------------


def _entries(holder: Any) -> Iterable[tuple[str, Any]]:
    """What a module, list, tuple or dict holds, with names."""
    if isinstance(holder, Module):
        return vars(holder).items()
    if isinstance(holder, dict):
        return ((str(key), value) for key, value in holder.items())
    return ((str(i), value) for i, value in enumerate(holder))


def _holders(
    root: Module, prefix: str = "", remove_duplicate: bool = True, recurse: bool = True
) -> Iterator[tuple[str, Any]]:
    """`root`, and every module, list, tuple and dict in it, with paths: each before what it holds, in definition order.

    Without `recurse`, what other modules hold is left out. A module that is (in) its own part is not entered again.
    """
    return _walk(prefix, root, (id(root),), root, {id(root)} if remove_duplicate else None, recurse)


# Not a closure inside `_holders`: one that calls itself is a cycle, which would keep the network in memory.
def _walk(
    path: str, holder: Any, above: tuple[int, ...], root: Module, met: set[int] | None, recurse: bool
) -> Iterator[tuple[str, Any]]:
    yield path, holder
    if isinstance(holder, Module) and holder is not root and not recurse:
        return
    for name, value in _entries(holder):
        key = id(value)
        if isinstance(value, Module | list | tuple | dict) and key not in (above if met is None else met):
            if met is not None:
                met.add(key)
            yield from _walk(_join(path, name), value, (*above, key), root, met, recurse)


def _children(module: Module, remove_duplicate: bool) -> Iterator[tuple[str, Module]]:
    for path, holder in _holders(module, "", remove_duplicate, recurse=False):
        if isinstance(holder, Module) and holder is not module:
            yield path, holder


def _own_buffers(module: Module) -> Iterator[tuple[str, Tensor, bool]]:
    """Name, value and persistence of the buffers of one module that are set."""
    attributes = vars(module)
    for name, persistent in attributes.get("_buffers", {}).items():
        value = attributes.get(name)
        if isinstance(value, Tensor) and not isinstance(value, Parameter):
            yield name, value, persistent


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _draw(
    module: Module, label: str, depth: int, lines: list[tuple[str, int]], met: set[int], above: tuple[int, ...]
) -> None:
    """Append the lines of a module's printed tree, each with the parameters that it is the first to count."""
    own = list(module.named_parameters(recurse=False))
    fresh = {id(p): p.size for _, p in own if id(p) not in met}
    met.update(fresh)
    shared = "  (shared)" if own and not fresh else ""
    children = [(name, child) for name, child in _children(module, remove_duplicate=False) if id(child) not in above]
    arguments = module.extra_repr()
    text = "  " * depth + label + type(module).__name__
    if not children:
        lines.append((f"{text}({arguments}){shared}", sum(fresh.values())))
        return
    lines.append((f"{text}({arguments})" if arguments else text, 0))
    for name, p in own:
        mark = "" if id(p) in fresh else "  (shared)"
        lines.append(("  " * (depth + 1) + f"{name}: Parameter {describe(p)}{mark}", fresh.get(id(p), 0)))
    for name, child in children:
        _draw(child, f"{name}: ", depth + 1, lines, met, (*above, id(child)))
