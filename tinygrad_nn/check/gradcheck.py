"""`gradcheck` and `gradgradcheck`: is the derivative that a function hands out the one that it has?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError, GradcheckError
from .verdict import GradcheckResult


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    order: int = 1,
    tolerance: float = 1.0,
    seed: int = 0,
    raise_exception: bool = True,
) -> GradcheckResult:
    """Check the gradients of `fn(*inputs)` against the slopes that its values show, without a step size to choose.

    `inputs` are Tensors, arrays, or nested lists, tuples and dicts of them; what requires a gradient is checked, or
    everything floating if nothing does. If `fn` is a module, its parameters are checked too. `fn` returns Tensors,
    nested likewise. `order=2` checks the gradient's own gradients as well.

    The verdict is "pass" (with the `resolution`: the smallest relative error that would have been seen), "fail",
    "valid at kink" (the gradient lies between the slopes of the two sides) or "inconclusive" (with the reason; such a
    result is false but raises nothing). Tolerances follow from measured rounding errors; `tolerance` multiplies them.
    A wrong gradient raises `GradcheckError`, whose `result` is what is returned otherwise.

    >>> import numpy as np, tinygrad_nn as tg
    >>> result = tg.autograd.gradcheck(lambda x, y: tg.sin(x) * y, (np.ones(3), np.arange(3.0)))
    >>> result.verdict
    'pass'
    >>> result.resolution < 1e-8
    True
    """
    from .tiers import run  # only when used: importing the package must not wait for it

    if order not in (1, 2):
        raise ArgumentError(f"gradcheck: order {order}; 1 and 2 can be checked")
    result = run(fn, inputs, 1, tolerance, seed)
    if order == 2 and result:
        result = run(fn, inputs, 2, tolerance, seed)
    return _given(result, raise_exception)


def gradgradcheck(
    fn: Callable[..., Any], inputs: Any, *, tolerance: float = 1.0, seed: int = 0, raise_exception: bool = True
) -> GradcheckResult:
    """Check the second derivatives of `fn`: `gradcheck` of its gradient as a function of inputs and upstream gradient.

    >>> import numpy as np, tinygrad_nn as tg
    >>> bool(tg.autograd.gradgradcheck(lambda x: (x**3).sum(), np.arange(1.0, 4.0)))
    True
    """
    from .tiers import run

    return _given(run(fn, inputs, 2, tolerance, seed), raise_exception)


def _given(result: GradcheckResult, raise_exception: bool) -> GradcheckResult:
    if raise_exception and result.verdict == "fail":
        raise GradcheckError(result)
    return result
