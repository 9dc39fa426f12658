"""Modules made of a row or a dictionary of modules. Each part is an attribute under its name or number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, overload

from ..errors import ArgumentError
from .module import Module


class _Row(Module):
    """What `Sequential` and `ModuleList` share: modules "0", "1", … (or with names), used like a list."""

    def _parts(self) -> dict[str, Module]:
        return {name: part for name, part in vars(self).items() if isinstance(part, Module)}

    def _replace(self, parts: Iterable[tuple[str, Module]]) -> None:
        """Let these be the parts; what else the object has stays."""
        parts = [(name, _checked(self, name, part)) for name, part in parts]
        for name in self._parts():
            delattr(self, name)
        vars(self).update(parts)

    def _name_at(self, index: int) -> str:
        names = list(self._parts())
        try:
            return names[index]
        except IndexError:
            raise IndexError(f"{type(self).__name__}: index {index}, but it has {len(names)} modules") from None

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._parts().values())

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        """One module, or for a slice a new container of the same modules."""
        if not isinstance(index, slice):
            return vars(self)[self._name_at(index)]
        part = object.__new__(type(self))
        names = list(self._parts().items())[index]
        part._replace((str(i) if name.isdigit() else name, module) for i, (name, module) in enumerate(names))
        return part

    def __setitem__(self, index: int, module: Module) -> None:
        name = self._name_at(index)
        vars(self)[name] = _checked(self, name, module)

    def __delitem__(self, index: int | slice) -> None:
        left = list(self._parts().items())
        del left[index]
        self._replace((str(i) if name.isdigit() else name, part) for i, (name, part) in enumerate(left))

    def append(self, module: Module) -> Self:
        """Put a module at the end. Returns the container."""
        name = str(len(self))
        vars(self)[name] = _checked(self, name, module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Put modules at the end. Returns the container."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Self:
        """Put a module before that at `index`. Returns the container."""
        parts = list(self._parts().items())
        parts.insert(index, (str(index), module))
        self._replace((str(i) if name.isdigit() else name, part) for i, (name, part) in enumerate(parts))
        return self


class Sequential(_Row):
    """Modules run one after another, each on the result of the one before.

    They are given one by one, or as a dict of names. `net[0]`, `net[:2]`, `len`, iteration, `append`, `insert`,
    `extend` and `del net[0]` work as with lists; a named module is also an attribute.

    >>> import tinygrad_nn as tg
    >>> net = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.ReLU(), tg.nn.Linear(3, 1))
    >>> net(tg.ones((5, 2))).shape
    (5, 1)
    >>> net
    Sequential
      0: Linear(in_features=2, out_features=3)   9
      1: ReLU()
      2: Linear(in_features=3, out_features=1)   4
    13 parameters
    """

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            self._replace(modules[0].items())
        else:
            self._replace((str(i), module) for i, module in enumerate(modules))  # type: ignore[misc]  # checked there

    def forward(self, x: Any) -> Any:
        """The result of the last module."""
        for part in self.__dict__.values():
            if isinstance(part, Module):
                x = part(x)
        return x


class ModuleList(_Row):
    """A list of modules, to be used as the module that owns it likes.

    >>> import tinygrad_nn as tg
    >>> layers = tg.nn.ModuleList(tg.nn.Linear(2, 2) for _ in range(3))
    >>> len(layers), list(layers.state_dict())[:2]
    (3, ['0.weight', '0.bias'])
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._replace((str(i), module) for i, module in enumerate(modules))


class ModuleDict(Module):
    """A dictionary of modules, to be used as the module that owns it likes.

    >>> import tinygrad_nn as tg
    >>> heads = tg.nn.ModuleDict({"digit": tg.nn.Linear(8, 10), "parity": tg.nn.Linear(8, 2)})
    >>> heads["parity"](tg.ones(8)).shape
    (2,)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def _parts(self) -> dict[str, Module]:
        return {name: part for name, part in vars(self).items() if isinstance(part, Module)}

    def __len__(self) -> int:
        return len(self._parts())

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts())

    def __contains__(self, key: object) -> bool:
        return key in self._parts()

    def __getitem__(self, key: str) -> Any:
        try:
            return self._parts()[key]
        except KeyError:
            raise KeyError(f"ModuleDict: no module {key!r}; there are {list(self)}") from None

    def __setitem__(self, key: str, module: Module) -> None:
        vars(self)[key] = _checked(self, key, module)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parts().keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._parts().values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and modules."""
        return self._parts().items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules."""
        for key, module in dict(modules).items():
            self[key] = module

    def pop(self, key: str) -> Any:
        """Take a module out and return it."""
        module = self[key]
        delattr(self, key)
        return module


def _checked(owner: Module, name: str, module: Module) -> Module:
    """`module`, if it is one and can be an attribute called `name`."""
    kind = type(owner).__name__
    if not isinstance(module, Module):
        hint = ""
        if isinstance(module, type):
            hint = " (an instance is wanted, not the class)"
        elif isinstance(module, list | tuple):
            hint = f" (modules are given one by one: {kind}(*modules))"
        elif callable(module):
            hint = " (for a function, use its module, such as ReLU(), or write one of your own)"
        raise TypeError(f"{kind}: {name!r} must be a Module, not {module!r}{hint}")
    if not isinstance(name, str) or not name or "." in name or hasattr(type(owner), name):
        raise ArgumentError(
            f"{kind}: {name!r} cannot be the name of a module: a string without dots that is no method, such as 'fc1'"
        )
    return module
