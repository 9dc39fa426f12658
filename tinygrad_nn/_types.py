"""Type aliases and the call signatures of public functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, overload

import numpy as np

if TYPE_CHECKING:
    from .tensor import Tensor

Fn: TypeAlias = Callable[..., Any]  # an operation's function as declared; its public form is typed
Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"
Scalar: TypeAlias = "bool | int | float | complex | np.generic"
ArrayLike: TypeAlias = "Tensor | Array | Scalar | Sequence[Any]"
Axis: TypeAlias = "int | tuple[int, ...] | None"
Shape: TypeAlias = "int | Sequence[int]"
DTypeLike: TypeAlias = "np.dtype[Any] | type[Any] | str"
Index: TypeAlias = "int | slice | EllipsisType | None | Array | Tensor | Sequence[Any] | tuple[Any, ...]"


class Unary(Protocol):
    """A function of one array: Tensor to Tensor, array to array."""

    @overload
    def __call__(self, x: Tensor) -> Tensor: ...
    @overload
    def __call__(self, x: Array | Scalar | Sequence[Any]) -> Array: ...


class Binary(Protocol):
    """A function of two arrays that broadcast: a Tensor if either is one."""

    @overload
    def __call__(self, a: Tensor, b: ArrayLike) -> Tensor: ...
    @overload
    def __call__(self, a: ArrayLike, b: Tensor) -> Tensor: ...
    @overload
    def __call__(self, a: Array | Scalar | Sequence[Any], b: Array | Scalar | Sequence[Any]) -> Array: ...
