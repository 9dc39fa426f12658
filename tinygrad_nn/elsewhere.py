"""PyTorch's names of what has another name here: asking for one is an AttributeError that says which."""

from __future__ import annotations

import sys
from typing import Any

from .tensor import Tensor


class _Elsewhere:
    """An attribute that does not exist, and says what does. (`__getattr__` would slow every other attribute.)"""

    def __init__(self, name: str, here: str) -> None:
        self.text = f"'Tensor' object has no attribute {name!r}; here it is {here}"

    def __get__(self, tensor: Any, kind: Any) -> Any:
        raise AttributeError(self.text)


ATTRIBUTES = {
    "view": "reshape",
    "unsqueeze": "expand_dims",
    "clone": "copy",
    "dim": "ndim",
    "numel": "size",
    "to": "astype",
    "float": "astype('float32')",
    "double": "astype('float64')",
    "long": "astype('int64')",
    "expand": "broadcast_to",
    "clamp": "clip",
    "t": "T",
    "amax": "max",
    "amin": "min",
    "int": "astype('int64')",
    "cpu": "numpy() for the array; all tensors are in the processor's memory",
    **{
        name: f"tinygrad_nn.{here}"
        for name, here in {
            "pow": "power",
            "add": "add",
            "sub": "subtract",
            "mul": "multiply",
            "div": "divide",
            "matmul": "matmul",
            "softmax": "softmax",
            "log_softmax": "log_softmax",
            "logsumexp": "logsumexp",
            "masked_fill": "where",
            "gather": "take_along_axis",
            "index_select": "take",
            "split": "split",
            "unbind": "unstack",
            "flip": "flip",
            "roll": "roll",
            "tile": "tile",
            "tril": "tril",
            "triu": "triu",
        }.items()
    },
}
for _name, _here in ATTRIBUTES.items():
    setattr(Tensor, _name, _Elsewhere(_name, _here))

FUNCTIONS = {
    "cat": "concat",
    "clamp": "clip",
    "unsqueeze": "expand_dims",
    "permute": "transpose",
    "movedim": "moveaxis",
    "swapdims": "swapaxes",
    "unbind": "unstack",
    "ravel": "flatten",
    "numel": "Tensor.size",
    "mm": "matmul",
    "bmm": "matmul",
    "mv": "matmul",
    "inner": "vecdot",
    "ger": "outer",
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "neg": "negative",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "amax": "max",
    "amin": "min",
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "from_numpy": "asarray",
    "as_tensor": "asarray",
    "index_select": "take",
    "gather": "take_along_axis",
    "norm": "linalg.norm",
    "grad": "func.grad",
    "set_grad_enabled": "no_grad",
    "inference_mode": "no_grad",
    "randint": "random.randint",
    "normal": "random.normal",
    "randperm": "random.permutation",
}


def _missing(name: str) -> Any:
    text = f"module {__package__!r} has no attribute {name!r}"
    if name in FUNCTIONS:
        text += f"; here it is {__package__}.{FUNCTIONS[name]}"
    elif name in ("float16", "float32", "float64", "int64", "bool"):
        text += f"; dtypes are NumPy's: numpy.{name}, or the string {name!r}"
    raise AttributeError(text)


# What the package does where it has no such name. Set here: imported by name, it would tell type checkers that there
# is any name at all.
setattr(sys.modules[__package__], "__getattr__", _missing)  # noqa: B010
