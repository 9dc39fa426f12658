"""Operators and array methods of `Tensor`: the public functions themselves, put on the class.

`Tensor.__add__` *is* `add`, so an operator costs no call on top of it. The typed stubs that readers and type checkers
see are in `tensor.py`; a test holds the two lists against each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import creation
from .ops import einsum, elementwise, index, linalg, matrix, norm, order, reduce, shape
from .registry import OPS, TWINS
from .tensor import Tensor


def _reflected(function: Any) -> Any:
    def call(self: Any, other: Any) -> Any:
        return function(other, self)

    return call


def _or_identity(function: Any) -> Any:
    """`==` and `!=` with something that is no array (None, a string) say unequal, as Python expects."""

    def call(self: Any, other: Any) -> Any:
        try:
            return function(self, other)
        except TypeError:
            return NotImplemented

    return call


def _reshape(self: Any, *lengths: Any) -> Any:
    """The same elements with other lengths of axes: `x.reshape(2, 3)` or `x.reshape((2, 3))`; one may be -1."""
    return shape.reshape(self, lengths[0] if len(lengths) == 1 else lengths)


def _transpose(self: Any, *axes: Any) -> Any:
    """The axes in another order: `x.transpose(1, 0)` or `x.transpose((1, 0))`; reversed when none is given."""
    order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    return shape.transpose(self, order or None)


OPERATORS = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.remainder,
    "pow": elementwise.power,
    "matmul": linalg.matmul,
    "and": elementwise.bitwise_and,
    "or": elementwise.bitwise_or,
    "xor": elementwise.bitwise_xor,
}
METHODS = {
    **{f"__{name}__": function for name, function in OPERATORS.items()},
    **{f"__r{name}__": _reflected(function) for name, function in OPERATORS.items()},
    "__neg__": elementwise.negative,
    "__pos__": elementwise.positive,
    "__abs__": elementwise.absolute,
    "__invert__": elementwise.invert,
    "__lt__": elementwise.less,
    "__le__": elementwise.less_equal,
    "__gt__": elementwise.greater,
    "__ge__": elementwise.greater_equal,
    "__eq__": _or_identity(elementwise.equal),
    "__ne__": _or_identity(elementwise.not_equal),
    "__getitem__": index.getitem,
    "reshape": _reshape,
    "transpose": _transpose,
    "permute": _transpose,
    "T": property(shape.transpose),
    "mT": property(shape.matrix_transpose),
    **{
        name: getattr(module, name)
        for module, names in (
            (elementwise, "exp log sqrt square tanh sigmoid relu sin cos clip"),
            (shape, "flatten swapaxes squeeze expand_dims astype copy repeat broadcast_to"),
            (reduce, "sum mean var std max min prod cumsum cumprod argmax argmin all any"),
            (index, "take"),
            (linalg, "dot diagonal trace"),
        )
        for name in names.split()
    },
    "abs": elementwise.absolute,
}
for _name, _function in METHODS.items():
    setattr(Tensor, _name, _function)


def _spread_in_numpys_form(function: Any) -> Any:
    """`np.var(x, axis, ddof=1)`: our `correction` is its `ddof` (NumPy 2 knows both)."""

    def call(
        a: Any, axis: Any = None, *, ddof: float = 0, keepdims: bool = False, correction: float | None = None
    ) -> Any:
        return function(a, axis, ddof if correction is None else correction, keepdims)

    return call


def _of_arrays(function: Any) -> Any:
    """NumPy's own function on the arrays: what has no gradient to lose."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*(a._array() if isinstance(a, Tensor) else a for a in args), **kwargs)

    return call


# NumPy's functions, given a Tensor, call ours of the same meaning (the public function, which checks arguments).
_PUBLIC = {
    name: f
    for module in (norm, matrix, order, shape, reduce, index, linalg, einsum, elementwise)
    for name, f in vars(module).items()
}
TWINS.update({op.twin: _PUBLIC.get(op.name, op.call) for op in OPS.values() if op.twin is not None})
_SAME_NAME = """stack split flip roll squeeze expand_dims moveaxis swapaxes tile repeat pad broadcast_arrays where take
take_along_axis tensordot einsum outer dot trace diff"""
TWINS.update({getattr(np, name): _PUBLIC[name] for name in _SAME_NAME.split()})
_OF_ARRAYS = (np.shape, np.ndim, np.size, np.allclose, np.array_equal, np.isclose, np.count_nonzero)
TWINS.update({function: _of_arrays(function) for function in _OF_ARRAYS})
TWINS.update(
    {getattr(np, name): getattr(creation, name) for name in ("zeros_like", "ones_like", "full_like", "empty_like")}
)
TWINS.update({np.ravel: shape.flatten, np.amax: reduce.max, np.amin: reduce.min})
TWINS.update({np.concatenate: shape.concat, np.var: _spread_in_numpys_form(reduce.var)})
TWINS.update({np.linalg.norm: norm.norm, np.linalg.matrix_norm: norm.matrix_norm, np.linalg.slogdet: matrix.slogdet})
TWINS[np.std] = _spread_in_numpys_form(reduce.std)
