"""Strategies for arrays and Tensors inside a domain: where an operation is smooth, or exactly at its kinks.

A domain is plain data (`tinygrad_nn.domains`), written beside each operation. Everything here shrinks to fewer axes,
shorter ones, and round numbers: 0 or 1 where they lie in the domain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import strategies as st

from .._types import DTypeLike
from ..domains import Booleans, Domain, Integers, Invertible, Reals
from ..errors import ArgumentError
from ..registry import OPS, Op
from ..tensor import Tensor
from . import array_shapes
from .array_shapes import Shape

Array = np.ndarray[Any, Any]
Operation: TypeAlias = "str | Callable[..., Any]"
SMALLEST = 2.0**-10  # nearer to 0, if 0 is in the domain, is 0: products of tiny numbers test rounding, not rules
TIE_VALUES = 3  # how many different values an array with ties is made of


def find_op(op: Operation) -> Op:
    """The declaration of an operation, given its name or its public function."""
    name = op if isinstance(op, str) else getattr(op, "__name__", "")
    if name not in OPS:
        raise ArgumentError(f"{op!r} is no registered operation; docs/operations.md lists them")
    return OPS[name]


def domain_of(op: Operation, argument: int = 0) -> Domain:
    """Where an operation is smooth in one of its arguments; the operation by name or as its public function.

    >>> import tinygrad_nn as tg
    >>> tg.testing.domain_of(tg.divide, 1)
    Reals(low=-3.0, high=3.0, avoid=(0.0,), margin=0.1, distinct=False)
    """
    return nth(find_op(op).domain, argument)


def nth(domains: Sequence[Domain], i: int) -> Domain:
    """The domain of argument i; the last one stands for all further arguments of a variadic operation."""
    return domains[min(i, len(domains) - 1)]


def intervals(domain: Reals) -> list[tuple[float, float]]:
    """The pieces of [low, high] that stay `margin` away from every point of `avoid`; those with round numbers first."""
    pieces, low = [], domain.low
    for point in sorted(domain.avoid):
        pieces.append((low, min(domain.high, point - domain.margin)))
        low = max(domain.low, point + domain.margin)
    pieces.append((low, domain.high))
    return sorted([(a, b) for a, b in pieces if a <= b], key=lambda ab: (ab[1] < 0, min(abs(ab[0]), abs(ab[1]))))


def reals(domain: Reals, dtype: DTypeLike = np.float64) -> st.SearchStrategy[float]:
    """Numbers of a real domain that `dtype` can hold, away from what it avoids."""
    kind = np.dtype(dtype).type
    width: Any = np.dtype(dtype).itemsize * 8

    def piece(a: float, b: float) -> st.SearchStrategy[float]:
        low, high = kind(a), kind(b)  # rounded: perhaps out of the domain
        low = np.nextafter(low, kind(np.inf)) if float(low) < a else low  # NumPy would round a, too, to compare
        high = np.nextafter(high, kind(-np.inf)) if float(high) > b else high
        drawn = st.floats(float(low), float(high), width=width, allow_subnormal=False)
        return drawn.map(_not_tiny) if low <= 0 <= high else drawn

    return st.one_of([piece(a, b) for a, b in intervals(domain)])


def _not_tiny(x: float) -> float:
    return x if abs(x) >= SMALLEST else 0.0


# -- one array --------------------------------------------------------------------------------------------------------


def arrays(
    domain: Domain | Operation = Reals(),  # noqa: B008  # frozen
    shape: int | Shape | st.SearchStrategy[Shape] | None = None,
    dtype: DTypeLike | st.SearchStrategy[Any] = np.float64,
    *,
    kinks: bool = False,
) -> st.SearchStrategy[Array]:
    """Arrays inside a domain: one of `tinygrad_nn.domains`, or that of an operation's first argument.

    `shape` is a shape or a strategy for shapes (any of up to 3 axes unless told), `dtype` a floating dtype or a
    strategy for dtypes; domains of integers give int64, of booleans bool. With `kinks`, at least one element lies
    exactly at a point that the domain avoids, or where the domain is of distinct values, two are equal (if there are
    two). An operation without a declared kink has none to draw: ArgumentError. Poles are no kinks.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.arrays("log"), lambda x: x.ndim == 2)
    array([[1.]])
    >>> find(tg.testing.arrays("relu", kinks=True), lambda x: x.size == 2 and x.any())
    array([0., 1.])
    """
    return _one(checked_domains(domain, 1, kinks)[0], _shape_strategy(shape), _dtype_strategy(dtype), kinks)


def tensors(source: st.SearchStrategy[Array] | None = None, *, requires_grad: bool = True) -> st.SearchStrategy[Tensor]:
    """Tensors of the arrays of another strategy (`arrays()` unless told), which share their memory, views included.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.tensors(tg.testing.arrays("log", dtype="float32")), lambda t: True)
    tensor(1., requires_grad=True)
    """
    return _tensor(arrays() if source is None else source, requires_grad)


# Below, `composite` and not `map`: Hypothesis then shows the array that was drawn, not how it was made.


@st.composite
def _one(draw: Any, domain: Domain, shape: Any, dtype: Any, kinks: bool) -> Array:
    return draw(_arguments((domain,), st.just((draw(shape),)), dtype, kinks))[0]  # type: ignore[no-any-return]


@st.composite
def _tensor(draw: Any, source: st.SearchStrategy[Array], requires_grad: bool) -> Tensor:
    array = draw(source)
    return Tensor(array, requires_grad=requires_grad and array.dtype.kind == "f")


# -- several arrays ---------------------------------------------------------------------------------------------------


def arguments(
    domain: Sequence[Domain] | Operation,
    shapes: Sequence[Shape] | st.SearchStrategy[Any],
    dtype: DTypeLike | st.SearchStrategy[Any] = np.float64,
    *,
    kinks: bool = False,
) -> st.SearchStrategy[tuple[Array, ...]]:
    """One array for each shape, each inside its domain; distinct ones differ from those of other arguments, too.

    `domain` is one domain for each argument (the last stands for all further ones), or an operation. With `kinks` as
    for `arrays`: equal values occur within and between arguments.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.arguments("maximum", [(2,), ()]), lambda pair: True)
    (array([0., 1.]), array(2.))
    """
    chosen = checked_domains(domain, len(shapes) if not isinstance(shapes, st.SearchStrategy) else None, kinks)
    return _arguments(
        chosen,
        shapes if isinstance(shapes, st.SearchStrategy) else st.just(tuple(shapes)),
        _dtype_strategy(dtype),
        kinks,
    )


def broadcasting_pairs(
    domain: Domain | Sequence[Domain] | Operation = Reals(),  # noqa: B008  # frozen
    dtype: DTypeLike | st.SearchStrategy[Any] = np.float64,
    *,
    kinks: bool = False,
) -> st.SearchStrategy[tuple[Array, ...]]:
    """Two arrays whose shapes broadcast; `domain` for both, one for each, or those of an operation of two arguments.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.broadcasting_pairs(tg.divide), lambda pair: pair[0].shape != pair[1].shape)
    (array([0.]), array(1.))
    """
    domains = (domain,) if isinstance(domain, Domain) else domain
    return arguments(domains, array_shapes.broadcastable_shapes(2), dtype, kinks=kinks)


@st.composite
def _arguments(
    draw: Any, domains: Sequence[Domain], shapes: st.SearchStrategy[Any], dtype: st.SearchStrategy[Any], kinks: bool
) -> tuple[Array, ...]:
    found = draw(shapes)
    kind = draw(dtype)
    chosen = [nth(domains, i) for i in range(len(found))]
    if kinks:
        return tuple(_at_kinks(draw, domain, shape, kind) for domain, shape in zip(chosen, found, strict=True))
    values = _distinct_values(draw, chosen, found)
    return tuple(_inside(draw, domain, shape, kind, values) for domain, shape in zip(chosen, found, strict=True))


def _inside(draw: Any, domain: Domain, shape: Shape, dtype: Any, values: Iterator[float]) -> Array:
    if isinstance(domain, Booleans):
        return draw(hnp.arrays(np.bool_, shape))  # type: ignore[no-any-return]
    if isinstance(domain, Integers):
        return draw(hnp.arrays(np.int64, shape, elements=st.integers(domain.low, domain.high - 1)))  # type: ignore[no-any-return]
    if isinstance(domain, Invertible):
        entries = draw(hnp.arrays(dtype, shape, elements=reals(Reals(-1.0, 1.0), dtype)))
        return entries + np.eye(*shape[-2:], dtype=dtype) * (shape[-1] + 1) if len(shape) > 1 else entries  # type: ignore[no-any-return]
    if domain.distinct:
        return np.array([next(values) for _ in range(math.prod(shape))], dtype).reshape(shape)
    return draw(hnp.arrays(dtype, shape, elements=reals(domain, dtype)))  # type: ignore[no-any-return]


def _distinct_values(draw: Any, domains: Sequence[Domain], shapes: Sequence[Shape]) -> Iterator[float]:
    """Values for all elements that must differ, on a grid of round numbers, each moved by less than a third of it."""
    wanted = [(d, math.prod(s)) for d, s in zip(domains, shapes, strict=True) if isinstance(d, Reals) and d.distinct]
    total = sum(size for _, size in wanted)
    if not total:
        return iter(())
    low, high = max(d.low for d, _ in wanted), min(d.high for d, _ in wanted)
    margin = max(d.margin for d, _ in wanted)
    grid, spacing = _grid(low, high, total, margin)
    order = draw(st.lists(st.sampled_from(grid), min_size=total, max_size=total, unique=True))
    room = min(0.3, 1 - margin / spacing)
    moves = draw(st.lists(st.floats(0, room).map(_not_tiny), min_size=total, max_size=total))
    return iter([at + spacing * move for at, move in zip(order, moves, strict=True)])


def _grid(low: float, high: float, total: int, margin: float) -> tuple[list[float], float]:
    """At least `total` points in [low, high], and their spacing: multiples of a power of 2 if that is wide enough."""
    spacing = 1.0
    while spacing > margin:
        grid = [spacing * k for k in range(math.ceil(low / spacing), math.floor(high / spacing - 0.3) + 1)]
        if len(grid) >= total:
            return sorted(grid, key=lambda at: (at < 0, abs(at))), spacing  # they shrink to 0, 1, 2, ...
        spacing /= 2
    spacing = (high - low) / total
    if spacing < margin:
        raise ArgumentError(
            f"{total} values that differ by {margin} do not fit into [{low}, {high}]: use smaller shapes"
        )
    return [low + spacing * k for k in range(total)], spacing


def _at_kinks(draw: Any, domain: Domain, shape: Shape, dtype: Any) -> Array:
    if not isinstance(domain, Reals) or not _has_kink(domain):
        return _inside(draw, domain, shape, dtype, iter(()))
    size = math.prod(shape)
    if domain.distinct:
        step = (domain.high - domain.low) / (TIE_VALUES + 1)
        few = [dtype.type(domain.low + step * (k + 1)) for k in range(TIE_VALUES)]
        made = draw(hnp.arrays(dtype, shape, elements=st.sampled_from(few)))
        if size > 1:
            made.flat[draw(st.integers(1, size - 1))] = made.flat[0]
        return made  # type: ignore[no-any-return]
    points = st.sampled_from(sorted(_kinks(domain), key=lambda p: (abs(p), p < 0)))
    made = draw(hnp.arrays(dtype, shape, elements=st.one_of(points, reals(domain, dtype))))
    if size:
        made.flat[draw(st.integers(0, size - 1))] = draw(points)
    return made  # type: ignore[no-any-return]


def _kinks(domain: Reals) -> list[float]:
    return [p for p in domain.avoid if domain.low <= p <= domain.high]


def _has_kink(domain: Domain) -> bool:
    return isinstance(domain, Reals) and (domain.distinct or bool(_kinks(domain)))


def checked_domains(domain: Any, count: int | None, kinks: bool) -> tuple[Domain, ...]:
    """The domains that were asked for: none is empty, and with `kinks` one has some."""
    op = None
    if isinstance(domain, Domain):
        domains: tuple[Domain, ...] = (domain,)
    elif isinstance(domain, Sequence) and not isinstance(domain, str):
        domains = tuple(domain)
    else:
        op = find_op(domain)
        domains = tuple(op.domain)
        count = len(domains) if count is None else count
    for d in domains:
        if isinstance(d, Reals) and not intervals(d):
            raise ArgumentError(f"{d} is empty: nothing is left of it at that distance from what it avoids")
    if kinks and (not any(map(_has_kink, domains[:count])) or (op is not None and not op.ties)):
        what = f"operation {op.name} declares" if op else f"{', '.join(map(str, domains))} has"
        raise ArgumentError(f"kinks=True: {what} no kink; draw inside the domain, or name one with Reals(avoid=(0.0,))")
    return domains


def _shape_strategy(shape: Any) -> st.SearchStrategy[Shape]:
    if shape is None:
        return array_shapes.shapes()
    if isinstance(shape, st.SearchStrategy):
        return shape
    return st.just((shape,) if isinstance(shape, int) else tuple(shape))


def _dtype_strategy(dtype: Any) -> st.SearchStrategy[Any]:
    if isinstance(dtype, st.SearchStrategy):
        return dtype
    if np.dtype(dtype).kind != "f":
        raise ArgumentError(
            f"dtype {np.dtype(dtype)}: reals are drawn as float16, float32 or float64; for others, use "
            "a domain of Integers or Booleans"
        )
    return st.just(np.dtype(dtype))


# -- matrices ---------------------------------------------------------------------------------------------------------


def spd_matrices(
    size: int | None = None, *, condition: float = 10.0, dtype: DTypeLike = np.float64
) -> st.SearchStrategy[Array]:
    """Symmetric positive definite matrices, `size` × `size` (1 to 4 unless told), largest eigenvalue 1.

    From 2 × 2 on, the condition number is `condition`: 10 is well-conditioned, 1e10 in float64 is not. Shrinks to the
    1 × 1 identity, and to diagonal matrices.

    >>> import tinygrad_nn as tg
    >>> from hypothesis import find
    >>> find(tg.testing.spd_matrices(2), lambda a: True)
    array([[1. , 0. ],
           [0. , 0.1]])
    """
    if condition < 1:
        raise ArgumentError(f"spd_matrices: condition {condition}: the condition number of a matrix is at least 1")
    return _spd(st.integers(1, 4) if size is None else st.just(size), condition, np.dtype(dtype))


@st.composite
def _spd(draw: Any, sizes: st.SearchStrategy[int], condition: float, dtype: np.dtype[Any]) -> Array:
    n = draw(sizes)
    between = draw(st.lists(st.floats(0, 1), min_size=max(0, n - 2), max_size=max(0, n - 2)))
    powers = np.array([0.0, *between, 1.0][:n])
    basis = np.eye(n)
    for _ in range(draw(st.integers(0, 2))):  # mirror the axes: a product of reflections is orthogonal
        v = draw(hnp.arrays(np.float64, n, elements=st.integers(-3, 3)))
        if v.any():
            basis = basis - 2 * np.outer(basis @ v, v) / (v @ v)
    made = (basis * condition**-powers) @ basis.T
    return np.asarray((made + made.T) / 2, dtype)
