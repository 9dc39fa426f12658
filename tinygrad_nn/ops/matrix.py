"""Square matrices: solve, inv, det, slogdet. Leading axes are a batch.

The derivatives are the classic ones; see Giles, "Collected matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._types import ArrayLike, Fn
from ..domains import Invertible, Reals, case
from ..errors import ArgumentError, ShapeError, describe
from . import batching
from .declare import general, nondifferentiable
from .elementwise import multiply
from .reduce import sum
from .shape import expand_dims, shape_of


def _lapack(name: str, fn: Callable[..., Any], *arrays: Any) -> Any:
    """A function of `np.linalg`, also for float16, which LAPACK lacks; where a matrix is singular, says which."""
    small = np.result_type(*arrays) == np.float16
    if small:
        arrays = tuple(a.astype(np.float32) for a in arrays)
    try:
        y = fn(*arrays)
    except np.linalg.LinAlgError:
        raise _singular(name, arrays[0]) from None
    return y.astype(np.float16) if small else y


def _singular(name: str, a: Any) -> ArgumentError:
    found = [tuple(map(int, place)) for place in np.argwhere(np.linalg.slogdet(a)[0] == 0)]
    which = f"matrix {', '.join(map(str, found[:5]))}{', ...' if len(found) > 5 else ''} of" if a.ndim > 2 else "the"
    return ArgumentError(
        f"{name}: {which} {describe(a)} is singular: some of its rows (or columns) are combinations of the others"
    )


def _require_square(name: str, a: ArrayLike) -> tuple[int, ...]:
    shape = shape_of(a)
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise ShapeError(f"{name}: {describe(a)} is no square matrix, or batch of them, shape (..., n, n)")
    return shape


def _in_matrix(g: Any) -> Any:
    """One number for each matrix, as something that scales matrices."""
    return expand_dims(g, (-2, -1))


# -- solve, inv --------------------------------------------------------------------------------------------------------

_solve: Fn = general(
    "solve",
    lambda a, b: _lapack("solve", np.linalg.solve, a, b),
    [lambda g, y, a, _b: -_solve(a.mT, g) @ y.mT, lambda g, _y, a, _b: _solve(a.mT, g)],
    [lambda t, y, a, _b: -_solve(a, t @ y), lambda t, _y, a, _b: _solve(a, t)],
    domain=(Invertible(), Reals()),
    cases=(
        case((3, 3), (3, 2)),
        case((2, 3, 3), (3, 1)),
        case((2, 2), (4, 2, 3)),
        case((2, 1, 2, 2), (3, 2, 2)),
        case((1, 1), (1, 1)),
        case((3, 3), (3, 0)),
        case((0, 0), (0, 2)),
    ),
    formula="A⁻¹ B",
    analytic=True,
    twin=np.linalg.solve,
    batch=batching.aligned,
)


def solve(a: ArrayLike, b: ArrayLike) -> Any:
    """The x with `a @ x = b`: `a` is (..., n, n), `b` a vector (n,) or matrices (..., n, k); leading axes broadcast.

    A singular matrix is an ArgumentError, which says which of a batch it is.

    >>> import tinygrad_nn as tg
    >>> tg.linalg.solve(tg.tensor([[2.0, 0.0], [1.0, 1.0]]), tg.tensor([4.0, 5.0]))
    tensor([2., 3.])
    """
    shape_a, shape_b = _require_square("solve", a), shape_of(b)
    if not shape_b or shape_b[-2 if len(shape_b) > 1 else 0] != shape_a[-1]:
        raise ShapeError(
            f"solve: a {describe(a)} and b {describe(b)} do not fit: a is (..., n, n), b is (n,) or (..., n, k)"
        )
    return _solve(a, expand_dims(b, -1))[..., 0] if len(shape_b) == 1 else _solve(a, b)


_MATRICES = (case((3, 3)), case((2, 2, 2)), case((1, 1)), case((2, 0, 3, 3)))

_inv: Fn = general(
    "inv",
    lambda a: _lapack("inv", np.linalg.inv, a),
    [lambda g, y, _a: -(y.mT @ g @ y.mT)],
    [lambda t, y, _a: -(y @ t @ y)],
    domain=(Invertible(),),
    cases=_MATRICES,
    batch=batching.leading,
    formula="A⁻¹",
    analytic=True,
    twin=np.linalg.inv,
)


def inv(a: ArrayLike) -> Any:
    """The inverses of square matrices (..., n, n); to solve equations, `solve` is faster and more accurate.

    A singular matrix is an ArgumentError, which says which of a batch it is.

    >>> import tinygrad_nn as tg
    >>> tg.linalg.inv(tg.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5 , 0.  ],
            [0.  , 0.25]])
    """
    _require_square("inv", a)
    return _inv(a)


# -- determinants ------------------------------------------------------------------------------------------------------


def _cofactor_matrix(a: Any) -> Any:
    """det(A) A⁻ᵀ, also of a singular A = U S Vᵀ: it is det(U) det(V) U C Vᵀ, with Cᵢ the product of the other S."""
    u, s, vh = np.linalg.svd(a)
    others = np.repeat(s[..., None, :], s.shape[-1], -2)
    others[..., np.eye(s.shape[-1], dtype=bool)] = 1.0
    flip = np.linalg.det(u) * np.linalg.det(vh)
    return flip[..., None, None] * ((u * np.multiply.reduce(others, -1)[..., None, :]) @ vh)


def _cofactor_vjp(g: Any, y: Any, a: Any) -> Any:
    inverse = _inv(a).mT
    return _in_matrix(sum(g * inverse, (-2, -1))) * y - y @ g.mT @ inverse


# The derivative of `det`; its own is written with the inverse, so it needs an invertible matrix.
_cofactor: Fn = general(
    "cofactor",
    lambda a: _lapack("cofactor", _cofactor_matrix, a),
    [_cofactor_vjp],
    [_cofactor_vjp],  # a matrix of second derivatives is symmetric
    domain=(Invertible(),),
    cases=_MATRICES,
    batch=batching.leading,
    formula="det(A) A⁻ᵀ",
    reference=lambda a: np.linalg.det(a)[..., None, None] * np.linalg.inv(a).mT,
)

_det: Fn = general(
    "det",
    lambda a: _lapack("det", np.linalg.det, a),
    [lambda g, _y, a: _in_matrix(g) * _cofactor(a)],
    [lambda t, _y, a: sum(t * _cofactor(a), (-2, -1))],
    domain=(Invertible(),),
    cases=_MATRICES,
    batch=batching.leading,
    formula="det A",
    analytic=True,
    twin=np.linalg.det,
)


def det(a: ArrayLike) -> Any:
    """The determinants of square matrices (..., n, n), with gradients that are right for singular ones, too.

    Second derivatives need an invertible matrix.

    >>> import tinygrad_nn as tg
    >>> a = tg.tensor([[1.0, 2.0], [2.0, 4.0]], requires_grad=True)
    >>> tg.linalg.det(a).backward()
    >>> a.grad.numpy().round(3)
    array([[ 4., -2.],
           [-2.,  1.]], dtype=float32)
    """
    _require_square("det", a)
    return _det(a)


_det_sign: Fn = nondifferentiable(
    "det_sign",
    lambda a: _lapack("slogdet", lambda m: np.linalg.slogdet(m)[0], a),
    domain=(Invertible(),),
    cases=_MATRICES,
    batch=batching.leading,
    formula="the sign of det A",
    reference=lambda a: np.sign(np.linalg.det(a)),
)
_logabsdet: Fn = general(
    "logabsdet",
    lambda a: _lapack("slogdet", lambda m: np.linalg.slogdet(m)[1], a),
    [lambda g, _y, a: _in_matrix(g) * _inv(a).mT],
    [lambda t, _y, a: sum(multiply(t, _inv(a).mT), (-2, -1))],
    domain=(Invertible(),),
    cases=_MATRICES,
    batch=batching.leading,
    formula="ln |det A|",
    reference=lambda a: np.log(np.abs(np.linalg.det(a))),
)


class SlogdetResult(NamedTuple):
    """The determinant as sign · exp(logabsdet)."""

    sign: Any
    logabsdet: Any


def slogdet(a: ArrayLike) -> SlogdetResult:
    """The sign of the determinants of real matrices (..., n, n), and ln |det|, which neither over- nor underflows.

    >>> import tinygrad_nn as tg
    >>> tg.linalg.slogdet(tg.tensor([[1e-30, 0.0], [0.0, -1e-30]]))
    SlogdetResult(sign=tensor(-1.), logabsdet=tensor(-138.1551))
    """
    _require_square("slogdet", a)
    return SlogdetResult(_det_sign(a), _logabsdet(a))
