"""tinygrad_nn: an autodiff micro-framework on NumPy. Write the forward pass; every derivative is worked out for you.

>>> import tinygrad_nn as tg
>>> x = tg.tensor([1.0, 2.0], requires_grad=True)
>>> loss = (x**2).sum()
>>> loss.backward()
>>> x.grad
tensor([2., 4.])
"""

from . import (
    autograd as autograd,
    data as data,
    elsewhere as _elsewhere,  # noqa: F401  # importing it puts hints on Tensor and on this package
    func as func,
    linalg as linalg,
    methods as _methods,  # noqa: F401  # importing it puts operators and methods on Tensor
    nn as nn,
    optim as optim,
    random as random,
    testing as testing,
)
from .creation import (
    arange as arange,
    empty as empty,
    empty_like as empty_like,
    eye as eye,
    full as full,
    full_like as full_like,
    linspace as linspace,
    ones as ones,
    ones_like as ones_like,
    zeros as zeros,
    zeros_like as zeros_like,
)
from .functional import (
    elu as elu,
    gelu as gelu,
    leaky_relu as leaky_relu,
    log_sigmoid as log_sigmoid,
    one_hot as one_hot,
    step as step,
)
from .modes import (
    enable_grad as enable_grad,
    is_grad_enabled as is_grad_enabled,
    no_grad as no_grad,
)
from .ops.einsum import einsum as einsum
from .ops.elementwise import (
    absolute as absolute,
    add as add,
    arccos as arccos,
    arccosh as arccosh,
    arcsin as arcsin,
    arcsinh as arcsinh,
    arctan as arctan,
    arctan2 as arctan2,
    arctanh as arctanh,
    bitwise_and as bitwise_and,
    bitwise_or as bitwise_or,
    bitwise_xor as bitwise_xor,
    cbrt as cbrt,
    ceil as ceil,
    clip as clip,
    copysign as copysign,
    cos as cos,
    cosh as cosh,
    deg2rad as deg2rad,
    divide as divide,
    equal as equal,
    erf as erf,
    exp as exp,
    exp2 as exp2,
    expm1 as expm1,
    floor as floor,
    floor_divide as floor_divide,
    fmod as fmod,
    greater as greater,
    greater_equal as greater_equal,
    hypot as hypot,
    invert as invert,
    isfinite as isfinite,
    isinf as isinf,
    isnan as isnan,
    less as less,
    less_equal as less_equal,
    log as log,
    log1p as log1p,
    log2 as log2,
    log10 as log10,
    logaddexp as logaddexp,
    logical_and as logical_and,
    logical_not as logical_not,
    logical_or as logical_or,
    logical_xor as logical_xor,
    maximum as maximum,
    minimum as minimum,
    multiply as multiply,
    negative as negative,
    not_equal as not_equal,
    positive as positive,
    power as power,
    rad2deg as rad2deg,
    reciprocal as reciprocal,
    relu as relu,
    remainder as remainder,
    rint as rint,
    sigmoid as sigmoid,
    sign as sign,
    silu as silu,
    sin as sin,
    sinh as sinh,
    softplus as softplus,
    sqrt as sqrt,
    square as square,
    subtract as subtract,
    tan as tan,
    tanh as tanh,
    trunc as trunc,
    where as where,
)
from .ops.index import (
    getitem as getitem,
    index_add as index_add,
    index_update as index_update,
    take as take,
    take_along_axis as take_along_axis,
)
from .ops.linalg import (
    diagonal as diagonal,
    dot as dot,
    linear as linear,
    matmul as matmul,
    outer as outer,
    tensordot as tensordot,
    trace as trace,
    vecdot as vecdot,
)
from .ops.order import (
    argsort as argsort,
    diff as diff,
    sort as sort,
)
from .ops.reduce import (
    all as all,
    any as any,
    argmax as argmax,
    argmin as argmin,
    cumprod as cumprod,
    cumsum as cumsum,
    max as max,
    mean as mean,
    min as min,
    prod as prod,
    std as std,
    sum as sum,
    var as var,
)
from .ops.shape import (
    astype as astype,
    broadcast_arrays as broadcast_arrays,
    broadcast_to as broadcast_to,
    concat as concat,
    copy as copy,
    expand_dims as expand_dims,
    flatten as flatten,
    flip as flip,
    matrix_transpose as matrix_transpose,
    moveaxis as moveaxis,
    pad as pad,
    repeat as repeat,
    reshape as reshape,
    roll as roll,
    split as split,
    squeeze as squeeze,
    stack as stack,
    sum_to as sum_to,
    swapaxes as swapaxes,
    tile as tile,
    transpose as transpose,
    tril as tril,
    triu as triu,
    unstack as unstack,
)
from .ops.softmax import (
    log_softmax as log_softmax,
    logsumexp as logsumexp,
    softmax as softmax,
)
from .random import (
    manual_seed as manual_seed,
    rand as rand,
    randn as randn,
)
from .serialize import (
    load as load,
    save as save,
)
from .tensor import (
    Tensor as Tensor,
    asarray as asarray,
    get_default_dtype as get_default_dtype,
    set_default_dtype as set_default_dtype,
    tensor as tensor,
)

abs = absolute
pow = power
round = rint
permute_dims = transpose
concatenate = concat
__version__ = "0.1.0"
