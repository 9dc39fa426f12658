"""Random numbers. Every one that this package draws comes from here: from one generator per process, or from the
`generator=` that a call names, so that `manual_seed` (or one's own generator) settles everything.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from ._types import Array, ArrayLike, DTypeLike, Shape
from .errors import ArgumentError, DTypeError, operation_error
from .tensor import Tensor, fresh, get_default_dtype, to_array

__all__ = ["default_generator", "manual_seed", "normal", "permutation", "rand", "randint", "randn", "uniform"]

_default: np.random.Generator | None = None  # made at the first use: numpy.random takes 10 ms to import
_replayed: ContextVar[np.random.Generator | None] = ContextVar("tinygrad_nn_replayed", default=None)


def manual_seed(seed: int) -> np.random.Generator:
    """Start the default generator anew from `seed`; the same seed gives the same numbers. Returns the generator.

    >>> import tinygrad_nn as tg
    >>> g = tg.manual_seed(0); a = tg.random.rand(3)
    >>> g = tg.manual_seed(0); b = tg.random.rand(3)
    >>> bool((a == b).all())
    True
    """
    try:
        state = np.random.default_rng(seed).bit_generator.state
    except (TypeError, ValueError) as error:
        raise operation_error("manual_seed", (seed,), error) from None
    generator = default_generator()
    generator.bit_generator.state = state  # the same object: whoever holds it is seeded as well
    return generator


def default_generator() -> np.random.Generator:
    """The generator that is used where no other is given; seeded by the system until `manual_seed`.

    >>> import tinygrad_nn as tg
    >>> type(tg.random.default_generator()).__name__
    'Generator'
    """
    global _default
    replayed = _replayed.get()
    if replayed is not None:
        return replayed
    if _default is None:
        _default = np.random.default_rng()
    return _default


@contextmanager
def replay(state: Mapping[str, Any]) -> Generator[None]:
    """Inside, in this thread, a generator in this state (of its `bit_generator`) is the default one."""
    generator = np.random.Generator(getattr(np.random, state["bit_generator"])(0))
    generator.bit_generator.state = state
    token = _replayed.set(generator)
    try:
        yield
    finally:
        _replayed.reset(token)


def floats(draw: Callable[..., Any], shape: Shape | None, dtype: DTypeLike | None, what: str) -> Array:
    """`draw(shape, dtype)`, a method of a generator. NumPy draws float32 and float64; others are rounded float64."""
    chosen = np.dtype(dtype or get_default_dtype())
    if chosen.kind != "f":
        raise DTypeError(f"{what}: dtype {chosen} is not floating; use float16, float32 or float64, or randint")
    drawn = np.dtype(np.float32 if chosen == np.float32 else np.float64)
    try:
        return np.asarray(draw(shape, drawn)).astype(chosen, copy=False)
    except (TypeError, ValueError) as error:
        raise operation_error(what, (shape,), error) from None


def _shape(shape: tuple[Any, ...]) -> Shape:
    return shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape


def rand(
    *shape: int | Sequence[int],
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Uniform in [0, 1). The shape as numbers or as one tuple: `rand(2, 3)`, `rand((2, 3))`.

    >>> import tinygrad_nn as tg
    >>> tg.random.rand(2, 3).shape
    (2, 3)
    """
    return fresh(
        floats((generator or default_generator()).random, _shape(shape), dtype, "rand"), requires_grad=requires_grad
    )


def randn(
    *shape: int | Sequence[int],
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Normal with mean 0 and variance 1. The shape as numbers or as one tuple: `randn(2, 3)`, `randn((2, 3))`.

    >>> import tinygrad_nn as tg
    >>> tg.random.randn(2, 3).shape
    (2, 3)
    """
    draw = (generator or default_generator()).standard_normal
    return fresh(floats(draw, _shape(shape), dtype, "randn"), requires_grad=requires_grad)


def uniform(
    low: float = 0.0,
    high: float = 1.0,
    size: Shape | None = None,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Uniform in [low, high), of shape `size`; a single number without.

    >>> import tinygrad_nn as tg
    >>> x = tg.random.uniform(-2.0, 2.0, size=(100,))
    >>> bool((abs(x) <= 2).all())
    True
    """
    unit = floats((generator or default_generator()).random, size, dtype, "uniform")
    return fresh(unit * (high - low) + low, requires_grad=requires_grad)


def normal(
    loc: float = 0.0,
    scale: float = 1.0,
    size: Shape | None = None,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Normal with mean `loc` and standard deviation `scale`, of shape `size`; a single number without.

    >>> import tinygrad_nn as tg
    >>> tg.random.normal(5.0, 0.1, size=(2, 3)).shape
    (2, 3)
    """
    if not scale >= 0:
        raise ArgumentError(f"normal: the standard deviation must not be negative: scale={scale}")
    unit = floats((generator or default_generator()).standard_normal, size, dtype, "normal")
    return fresh(unit * scale + loc, requires_grad=requires_grad)


def randint(
    low: int,
    high: int | None = None,
    size: Shape | None = None,
    dtype: DTypeLike = np.int64,
    generator: np.random.Generator | None = None,
) -> Tensor:
    """Integers, each of low … high-1 as likely as any other; with `low` alone, of 0 … low-1.

    >>> import tinygrad_nn as tg
    >>> tg.random.randint(0, 10, size=(2, 3)).dtype
    dtype('int64')
    """
    try:
        return fresh((generator or default_generator()).integers(low, high, size, np.dtype(dtype)))
    except (TypeError, ValueError) as error:
        raise operation_error("randint", (low, high, size), error) from None


def permutation(x: int | ArrayLike, generator: np.random.Generator | None = None) -> Tensor:
    """0 … x-1 in random order, or the rows of the array `x` (a copy) in random order.

    >>> import tinygrad_nn as tg
    >>> sorted(tg.random.permutation(4).tolist())
    [0, 1, 2, 3]
    """
    given = x if isinstance(x, int) else to_array(x, None)
    try:
        return fresh((generator or default_generator()).permutation(given))
    except (TypeError, ValueError, IndexError) as error:
        raise operation_error("permutation", (x,), error) from None
