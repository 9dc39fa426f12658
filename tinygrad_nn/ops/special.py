"""Special functions that NumPy does not have, on arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Any) -> Any:
    """The error function, element by element, in the dtype of `x`."""
    x = np.asarray(x)
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    return _erf(x).astype(dtype) if x.size else x.astype(dtype)
