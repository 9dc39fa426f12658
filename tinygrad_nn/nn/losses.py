"""Losses as modules: `criterion = CrossEntropyLoss()`, then `criterion(output, target)`."""

from __future__ import annotations

from typing import Any

from .._types import ArrayLike
from ..tensor import Tensor, tensor
from . import functional as F
from .module import Module


class CrossEntropyLoss(Module):
    """Softmax and negative log likelihood of logits (N, C, ...), against class numbers or probabilities.

    See `functional.cross_entropy` for the arguments.

    >>> import tinygrad_nn as tg
    >>> criterion = tg.nn.CrossEntropyLoss(label_smoothing=0.1)
    >>> criterion
    CrossEntropyLoss(label_smoothing=0.1)
    >>> criterion(tg.tensor([[0.0, 0.0]]), tg.tensor([1]))
    tensor(0.6931472)
    """

    weight: Tensor | None

    def __init__(
        self,
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        _set_weight(self, "weight", weight)
        self.ignore_index = ignore_index
        self.reduction = F.check_reduction(type(self).__name__, reduction)
        self.label_smoothing = label_smoothing

    def forward(self, input: ArrayLike, target: ArrayLike) -> Any:
        """The loss of logits."""
        return F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return _settings(self, ignore_index=-100, label_smoothing=0.0)


class NLLLoss(Module):
    """Negative log likelihood of log probabilities (N, C, ...), against class numbers.

    See `functional.nll_loss` for the arguments.

    >>> import tinygrad_nn as tg
    >>> tg.nn.NLLLoss(reduction="sum")(tg.log(tg.tensor([[0.25, 0.75]])), tg.tensor([0]))
    tensor(1.3862944)
    """

    weight: Tensor | None

    def __init__(self, weight: ArrayLike | None = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        _set_weight(self, "weight", weight)
        self.ignore_index = ignore_index
        self.reduction = F.check_reduction(type(self).__name__, reduction)

    def forward(self, input: ArrayLike, target: ArrayLike) -> Any:
        """The loss of log probabilities."""
        return F.nll_loss(input, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return _settings(self, ignore_index=-100)


class BCELoss(Module):
    """Binary cross entropy of probabilities. See `functional.binary_cross_entropy`.

    >>> import tinygrad_nn as tg
    >>> tg.nn.BCELoss()(tg.tensor([0.5, 0.5]), tg.tensor([0.0, 1.0]))
    tensor(0.6931472)
    """

    weight: Tensor | None

    def __init__(self, weight: ArrayLike | None = None, *, reduction: str = "mean") -> None:
        _set_weight(self, "weight", weight)
        self.reduction = F.check_reduction(type(self).__name__, reduction)

    def forward(self, input: ArrayLike, target: ArrayLike) -> Any:
        """The loss of probabilities."""
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return _settings(self)


class BCEWithLogitsLoss(Module):
    """Binary cross entropy of logits. See `functional.binary_cross_entropy_with_logits`.

    >>> import tinygrad_nn as tg
    >>> tg.nn.BCEWithLogitsLoss(pos_weight=[2.0])(tg.tensor([0.0]), tg.tensor([1.0]))
    tensor(1.3862944)
    """

    weight: Tensor | None
    pos_weight: Tensor | None

    def __init__(
        self, weight: ArrayLike | None = None, *, reduction: str = "mean", pos_weight: ArrayLike | None = None
    ) -> None:
        _set_weight(self, "weight", weight)
        _set_weight(self, "pos_weight", pos_weight)
        self.reduction = F.check_reduction(type(self).__name__, reduction)

    def forward(self, input: ArrayLike, target: ArrayLike) -> Any:
        """The loss of logits."""
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return _settings(self)


class MSELoss(Module):
    """The mean squared error. See `functional.mse_loss`.

    >>> import tinygrad_nn as tg
    >>> tg.nn.MSELoss()(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 4.0]))
    tensor(2.)
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        self.reduction = F.check_reduction(type(self).__name__, reduction)

    def forward(self, input: ArrayLike, target: ArrayLike) -> Any:
        """The loss of numbers."""
        return F.mse_loss(input, target, reduction=self.reduction)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return _settings(self)


class L1Loss(Module):
    """The mean absolute error. See `functional.l1_loss`.

    >>> import tinygrad_nn as tg
    >>> tg.nn.L1Loss()(tg.tensor([1.0, 2.0]), tg.tensor([1.0, 4.0]))
    tensor(1.)
    """

    def __init__(self, *, reduction: str = "mean") -> None:
        self.reduction = F.check_reduction(type(self).__name__, reduction)

    def forward(self, input: ArrayLike, target: ArrayLike) -> Any:
        """The loss of numbers."""
        return F.l1_loss(input, target, reduction=self.reduction)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return _settings(self)


class HuberLoss(Module):
    """Squared error for small differences, absolute error for large ones. See `functional.huber_loss`.

    >>> import tinygrad_nn as tg
    >>> tg.nn.HuberLoss(delta=2.0)(tg.tensor([1.0, 3.0]), tg.tensor([0.0, 0.0]))
    tensor(2.25)
    """

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0) -> None:
        self.reduction = F.check_reduction(type(self).__name__, reduction)
        self.delta = delta

    def forward(self, input: ArrayLike, target: ArrayLike) -> Any:
        """The loss of numbers."""
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return _settings(self, delta=1.0)


def _set_weight(module: Module, name: str, weight: ArrayLike | None) -> None:
    """Keep a weight as a buffer, so that it is saved with the module and changes dtype with it, as in PyTorch."""
    module.register_buffer(name, None if weight is None else tensor(weight))


def _settings(module: Module, **defaults: Any) -> str:
    """`reduction` and the settings named, where they are not the default."""
    given = {name: getattr(module, name) for name in (*defaults, "reduction")}
    usual = {**defaults, "reduction": "mean"}
    return ", ".join(f"{name}={value!r}" for name, value in given.items() if value != usual[name])
