"""New tensors: `zeros`, `ones`, `full`, `empty`, `eye`, `arange`, `linspace`, and the `…_like` forms.

They make leaves. Where no dtype is given, Python floats take the default dtype (`set_default_dtype`), integers are
int64 and booleans bool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import numpy as np

from ._types import Array, ArrayLike, DTypeLike, Scalar, Shape
from .batched import Batched
from .errors import BatchError, DTypeError, operation_error
from .tensor import Tensor, fresh, get_default_dtype, to_array


def _made(name: str, given: tuple[object, ...], make: Callable[[], Any], requires_grad: bool) -> Tensor:
    try:
        array = make()
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise operation_error(name, given, error) from None
    return fresh(array, requires_grad=requires_grad)


def _filled(
    name: str, make: Callable[[Any, Any], Any], shape: Shape, dtype: DTypeLike | None, requires_grad: bool
) -> Tensor:
    if isinstance(dtype, int):
        raise DTypeError(
            f"{name}: cannot take {dtype} as a dtype; give the shape as one tuple, as in {name}(({shape}, {dtype}))"
        )
    return _made(name, (shape,), lambda: make(shape, dtype or get_default_dtype()), requires_grad)


def zeros(shape: Shape, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros of the given shape, in the default dtype unless told.

    >>> import tinygrad_nn as tg
    >>> tg.zeros((2, 3))
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return _filled("zeros", np.zeros, shape, dtype, requires_grad)


def ones(shape: Shape, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones of the given shape, in the default dtype unless told.

    >>> import tinygrad_nn as tg
    >>> tg.ones(3, dtype="int64")
    tensor([1, 1, 1])
    """
    return _filled("ones", np.ones, shape, dtype, requires_grad)


def empty(shape: Shape, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A tensor of the given shape whose elements are whatever the memory held: write before reading.

    >>> import tinygrad_nn as tg
    >>> tg.empty((2, 3)).shape
    (2, 3)
    """
    return _filled("empty", np.empty, shape, dtype, requires_grad)


def full(
    shape: Shape, fill_value: Tensor | Scalar, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of the given shape, every element `fill_value`, whose dtype it has unless told.

    >>> import tinygrad_nn as tg
    >>> tg.full((2, 2), 0.5)
    tensor([[0.5, 0.5],
            [0.5, 0.5]])
    """
    value = to_array(fill_value, dtype)
    return _made("full", (shape, fill_value), lambda: np.full(shape, value, value.dtype), requires_grad)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    *,
    k: int = 0,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones on diagonal `k` (0 the main one, above it positive) of an (n_rows, n_cols) matrix, zeros elsewhere.

    >>> import tinygrad_nn as tg
    >>> tg.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    return _made(
        "eye", (n_rows, n_cols), lambda: np.eye(n_rows, n_cols, k, dtype or get_default_dtype()), requires_grad
    )


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`start`, `start + step`, … up to but without `stop`; one number alone is the stop, counted from 0.

    int64 if all three are integers, else the default dtype.

    >>> import tinygrad_nn as tg
    >>> tg.arange(4)
    tensor([0, 1, 2, 3])
    >>> tg.arange(0.0, 1.0, 0.25)
    tensor([0.  , 0.25, 0.5 , 0.75])
    """
    if stop is None:
        start, stop = 0, start

    def make() -> Array:
        array = np.arange(start, stop, step)  # counted in float64, then rounded once
        return array.astype(dtype or (get_default_dtype() if array.dtype.kind == "f" else array.dtype), copy=False)

    return _made("arange", (start, stop, step), make, requires_grad)


def linspace(
    start: float,
    stop: float,
    num: int = 50,
    endpoint: bool = True,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`, which is the last of them unless `endpoint` is false.

    >>> import tinygrad_nn as tg
    >>> tg.linspace(0, 1, 5)
    tensor([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    return _made(
        "linspace",
        (start, stop, num),
        lambda: np.linspace(start, stop, num, endpoint, dtype=dtype or get_default_dtype()),
        requires_grad,
    )


def _like(name: str, make: Callable[..., Any], x: ArrayLike, dtype: DTypeLike | None, requires_grad: bool) -> Any:
    if isinstance(x, Batched) and not requires_grad:  # each example gets its own, to write into
        return Batched(_like(name, make, x.full, dtype, False), x.level)
    native = isinstance(x, np.generic) or hasattr(x, "__array_function__")  # or an array that speaks for itself
    plain = native and not isinstance(x, Tensor) and not requires_grad
    try:
        array = x._data if isinstance(x, Tensor) else x if plain else to_array(x, None)
    except BatchError:  # inside vmap: the shape and the dtype are known
        array = np.broadcast_to(np.zeros((), x.dtype), x.shape)  # type: ignore[union-attr]
    try:
        made = make(array, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise operation_error(name, (x, dtype), error) from None
    return made if plain else fresh(made, requires_grad=requires_grad)


@overload
def zeros_like(x: Array, dtype: DTypeLike | None = None) -> Array: ...  # type: ignore[overload-overlap]
@overload
def zeros_like(x: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor: ...
def zeros_like(x: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor | Array:
    """Zeros in the shape of `x`, and in its dtype unless told. An array gives an array, a tensor a tensor.

    >>> import tinygrad_nn as tg
    >>> tg.zeros_like(tg.tensor([1.0, 2.0]))
    tensor([0., 0.])
    """
    return _like("zeros_like", np.zeros_like, x, dtype, requires_grad)  # type: ignore[no-any-return]


@overload
def ones_like(x: Array, dtype: DTypeLike | None = None) -> Array: ...  # type: ignore[overload-overlap]
@overload
def ones_like(x: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor: ...
def ones_like(x: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor | Array:
    """Ones in the shape of `x`, and in its dtype unless told. An array gives an array, a tensor a tensor.

    >>> import tinygrad_nn as tg
    >>> tg.ones_like(tg.tensor([1.0, 2.0]))
    tensor([1., 1.])
    """
    return _like("ones_like", np.ones_like, x, dtype, requires_grad)  # type: ignore[no-any-return]


@overload
def empty_like(x: Array, dtype: DTypeLike | None = None) -> Array: ...  # type: ignore[overload-overlap]
@overload
def empty_like(x: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor: ...
def empty_like(x: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor | Array:
    """Uninitialised, in the shape of `x`, and in its dtype unless told. An array gives an array, a tensor a tensor.

    >>> import tinygrad_nn as tg
    >>> tg.empty_like(tg.tensor([1.0, 2.0])).shape
    (2,)
    """
    return _like("empty_like", np.empty_like, x, dtype, requires_grad)  # type: ignore[no-any-return]


@overload
def full_like(x: Array, fill_value: Scalar, dtype: DTypeLike | None = None) -> Array: ...  # type: ignore[overload-overlap]
@overload
def full_like(
    x: ArrayLike, fill_value: Scalar, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor: ...
def full_like(
    x: ArrayLike, fill_value: Scalar, dtype: DTypeLike | None = None, requires_grad: bool = False
) -> Tensor | Array:
    """`fill_value` in the shape of `x`, and in its dtype unless told. An array gives an array, a tensor a tensor.

    >>> import tinygrad_nn as tg
    >>> tg.full_like(tg.tensor([1.0, 2.0]), 7)
    tensor([7., 7.])
    """

    def make(array: Any, dtype: Any) -> Any:
        return np.full_like(array, fill_value, dtype=dtype)

    return _like("full_like", make, x, dtype, requires_grad)  # type: ignore[no-any-return]
