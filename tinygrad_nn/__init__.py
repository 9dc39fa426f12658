"""tinygrad_nn: an autodiff micro-framework on NumPy. Write the forward pass; every derivative is worked out for you.

>>> import tinygrad_nn as tg
>>> x = tg.tensor([1.0, 2.0], requires_grad=True)
>>> loss = (x**2).sum()
>>> loss.backward()
>>> x.grad
tensor([2., 4.])
"""

from . import methods as _methods  # puts operators and methods on Tensor
from . import autograd, func
from .creation import arange, empty, empty_like, eye, full, full_like, linspace, ones, ones_like, zeros, zeros_like
from .modes import enable_grad, is_grad_enabled, no_grad
from .ops.elementwise import (
    absolute,
    add,
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    bitwise_and,
    bitwise_or,
    bitwise_xor,
    cbrt,
    ceil,
    clip,
    copysign,
    cos,
    cosh,
    deg2rad,
    divide,
    equal,
    erf,
    exp,
    exp2,
    expm1,
    floor,
    floor_divide,
    fmod,
    greater,
    greater_equal,
    hypot,
    invert,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    positive,
    power,
    rad2deg,
    reciprocal,
    relu,
    remainder,
    rint,
    sigmoid,
    sign,
    silu,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    subtract,
    tan,
    tanh,
    trunc,
    where,
)
from .ops.index import getitem, index_add, index_update, take, take_along_axis
from .ops.linalg import diagonal, dot, einsum, linear, matmul, outer, tensordot, trace, vecdot
from .ops.reduce import all, any, argmax, argmin, cumprod, cumsum, max, mean, min, prod, std, sum, var
from .ops.shape import (
    astype,
    broadcast_arrays,
    broadcast_to,
    concat,
    copy,
    expand_dims,
    flatten,
    flip,
    matrix_transpose,
    moveaxis,
    pad,
    repeat,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    sum_to,
    swapaxes,
    tile,
    transpose,
    tril,
    triu,
    unstack,
)
from .random import manual_seed
from .tensor import Tensor, asarray, get_default_dtype, set_default_dtype, tensor

abs = absolute
pow = power
round = rint
permute_dims = transpose
concatenate = concat
__version__ = "0.1.0"
