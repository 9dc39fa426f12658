"""`Optimizer`: what all optimizers share — parameter groups, state per parameter, and their transport.

A group is a dict: its parameters under "params", and its options (learning rate and so on), which may be changed
between steps. Names and the form of `state_dict` are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np

from ..errors import ArgumentError, GraphError, describe
from ..graph import Leaf
from ..modes import enable_grad
from ..tensor import Tensor
from ..views import reclaim

Params = Iterable[Tensor] | Iterable[dict[str, Any]]
Closure = Callable[[], Any]


class Optimizer:
    """The base of all optimizers. A subclass gives the default options, checks them and writes `update`."""

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        if isinstance(params, Tensor | Mapping) or not isinstance(params, Iterable):
            raise TypeError(
                f"{self._name}: params must be an iterable of tensors or of groups, such as model.parameters(), not "
                + (describe(params) if isinstance(params, Tensor) else f"a {type(params).__name__}")
            )
        given: list[Any] = list(params)
        if not given:
            raise ArgumentError(
                f"{self._name}: params is empty, there is nothing to train (a generator such as model.parameters() "
                "can be used only once: call it again, or make a list of it)"
            )
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self).get("defaults", ()):  # it would be set and never read
            raise AttributeError(
                f"{self._name}: {name} is an option of each group: for g in optimizer.param_groups: g[{name!r}] = value"
            )
        super().__setattr__(name, value)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Train further parameters: a dict of "params" (a tensor or several) and options other than the defaults.

        If anything in it is wrong, the optimizer stays as it was.

        >>> import tinygrad_nn as tg
        >>> a, b = tg.nn.Parameter(1.0), tg.nn.Parameter(2.0)
        >>> optimizer = tg.optim.SGD([a], lr=0.1)
        >>> optimizer.add_param_group({"params": b, "lr": 0.01})
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.1, 0.01]
        """
        where = f"{self._name}: group {len(self.param_groups)}"
        if not isinstance(group, dict) or "params" not in group:
            given = f"keys {sorted(group)}" if isinstance(group, dict) else f"a {type(group).__name__}"
            raise ArgumentError(f'{where}: a group is a dict with "params", not {given}')
        if unknown := [key for key in group if key != "params" and key not in self.defaults]:
            raise ArgumentError(f"{where}: unknown options {unknown}; there are {list(self.defaults)}")
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        if not params:
            raise ArgumentError(f"{where}: it has no parameters (a generator can be used only once)")
        taken = {id(p) for other in self.param_groups for p in other["params"]}
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(f"{where}: parameter {i} is a {type(p).__name__}, not a tensor")
            if not p.is_leaf:
                raise GraphError(
                    f"{where}: parameter {i}, {describe(p)}, is the result of an operation; only leaves can be trained"
                )
            if id(p) in taken:
                raise ArgumentError(f"{where}: parameter {i}, {describe(p)}, is in this optimizer already")
            taken.add(id(p))
        complete = {"params": params, **self.defaults, **_options(group)}
        self.check_options(complete)
        self.param_groups.append(complete)

    def check_options(self, group: dict[str, Any]) -> None:
        """Raise if an option of the group has a value that it cannot have."""

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters.

        >>> import tinygrad_nn as tg
        >>> p = tg.nn.Parameter(1.0)
        >>> (p * p).backward()
        >>> tg.optim.SGD([p], lr=0.1).zero_grad()
        >>> p.grad is None
        True
        """
        for group in self.param_groups:
            for p in group["params"]:
                node = p._node
                if isinstance(node, Leaf):
                    node.grad = None

    def step(self, closure: Closure | None = None) -> Any:
        """Update the parameters that have a gradient; those that have none, or need none, are passed over.

        With `closure`, call that first (it computes gradients afresh and returns the loss), and return what it
        returns. If a gradient does not fit its parameter, nothing at all is changed.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        work = []
        for group in self.param_groups:
            found = []
            for p in group["params"]:
                node = p._node
                if type(node) is Leaf and node.grad is not None:
                    if node.open:
                        reclaim(p)
                    array, g = p._array(), node.grad
                    if isinstance(g, Tensor):
                        g = g._data
                    if g.shape != array.shape or g.dtype is not array.dtype or not array.flags.writeable:
                        self._require_alike(p, "its gradient", g)
                    if self.state and p in self.state:
                        for key, value in self.state[p].items():
                            if isinstance(value, np.ndarray):
                                self._require_alike(p, f"its {key!r}", value)
                    found.append((p, array, g))
            work.append((group, found))
        self._update_all(work)
        return loss

    # Overflow is no failure: the loss shows it. A warning turned into an error would stop the step half-way.
    @np.errstate(all="ignore")
    def _update_all(self, work: list[tuple[dict[str, Any], list[tuple[Tensor, Any, Any]]]]) -> None:
        for group, found in work:
            self.update(group, found)

    def update(self, group: dict[str, Any], found: list[tuple[Tensor, Any, Any]]) -> None:
        """Update the parameters of one group: each with its array, to be written in place, and its gradient's."""
        raise NotImplementedError(f"{self._name} defines no update")

    def _require_alike(self, p: Tensor, what: str, value: Any) -> None:
        writeable = p._array().flags.writeable
        if writeable and value.shape == p.shape and value.dtype == p.dtype:
            return
        where = f"{self._name}.step: parameter {self._positions()[p]} is {describe(p)}"
        if not writeable:
            raise ArgumentError(f"{where}, an array that cannot be written; nothing was updated")
        raise ArgumentError(
            f"{where}, but {what} is {describe(value)}; nothing was updated. If the parameter was converted or "
            "replaced, call zero_grad() and make a new optimizer"
        )

    def _positions(self) -> dict[Tensor, int]:
        """Each parameter's number, counted over all groups."""
        params = [p for group in self.param_groups for p in group["params"]]
        return {p: i for i, p in enumerate(params)}

    # -- transport ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State and options in plain containers and arrays (copies): parameters are numbered in the order given.

        >>> import tinygrad_nn as tg
        >>> p = tg.nn.Parameter(1.0)
        >>> tg.optim.SGD([p], lr=0.1).state_dict()["param_groups"][0]["lr"]
        0.1
        """
        numbers = self._positions()
        return {
            "state": {numbers[p]: deepcopy(entry) for p, entry in self.state.items() if p in numbers},
            "param_groups": [
                {**deepcopy(_options(group)), "params": [numbers[p] for p in group["params"]]}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave, for the same parameters in the same groups.

        Arrays are copied in the dtype of their parameter. If anything does not fit, the optimizer stays as it was.

        >>> import tinygrad_nn as tg
        >>> p = tg.nn.Parameter(1.0)
        >>> a, b = tg.optim.SGD([p], lr=0.1), tg.optim.SGD([p], lr=0.5)
        >>> b.load_state_dict(a.state_dict())
        >>> b.param_groups[0]["lr"]
        0.1
        """
        name = f"{self._name}.load_state_dict"
        if missing := [key for key in ("state", "param_groups") if key not in state_dict]:
            raise ArgumentError(f"{name}: {missing} missing; this is not the state of an optimizer")
        saved = state_dict["param_groups"]
        sizes, own_sizes = [len(g["params"]) for g in saved], [len(g["params"]) for g in self.param_groups]
        if sizes != own_sizes:
            raise ArgumentError(f"{name}: groups of {sizes} parameters given, but this optimizer has {own_sizes}")
        groups: list[dict[str, Any]] = []
        by_number: dict[Any, Tensor] = {}
        for i, (group, given) in enumerate(zip(self.param_groups, saved, strict=True)):
            if missing := [key for key in self.defaults if key not in given]:
                raise ArgumentError(f"{name}: group {i} lacks the options {missing}; is it another optimizer's state?")
            groups.append({**deepcopy(dict(given)), "params": group["params"]})
            self.check_options(groups[-1])
            by_number.update(zip(given["params"], group["params"], strict=True))
        state: dict[Tensor, dict[str, Any]] = {}
        for number, entry in state_dict["state"].items():
            if number not in by_number:
                raise ArgumentError(f"{name}: state for parameter {number}, which is in no group")
            p = by_number[number]
            state[p] = {key: _entry(value, p, f"{name}: {key!r} of parameter {number}") for key, value in entry.items()}
        for group, loaded in zip(self.param_groups, groups, strict=True):
            group.clear()
            group.update(loaded)
        self.state = state

    def __repr__(self) -> str:
        rows = []
        for i, group in enumerate(self.param_groups):
            options = ", ".join(f"{k}={v}" for k, v in _options(group).items())
            size = sum(p.size for p in group["params"])
            rows.append(f"  group {i}: {len(group['params'])} tensors, {size:,} parameters; {options}")
        return "\n".join([self._name, *rows])


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _entry(value: Any, p: Tensor, where: str) -> Any:
    """A saved state value: arrays of the parameter's shape in its dtype, numbers and None as they are."""
    if value is None or isinstance(value, int | float | bool):
        return value
    array = np.asarray(value)
    if array.ndim == 0 and p.ndim:
        return array.item()
    if array.shape != p.shape:
        raise ArgumentError(f"{where} is {describe(array)}, but the parameter is {describe(p)}")
    return np.array(array, p.dtype)
