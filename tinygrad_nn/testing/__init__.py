"""`tg.testing`: gradient checks for your own code, with inputs that Hypothesis draws and shrinks.

`assert_gradients(fn, *inputs)` and `assert_close(actual, expected)` need nothing but this package. The rest draws
inputs, so it needs Hypothesis (extra `test`); it is imported when the first such name is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import missing_extra

if TYPE_CHECKING:
    from .array_shapes import broadcastable_shapes, dtypes, indices, shapes
    from .assertions import assert_close, assert_gradients
    from .decorator import check_gradients
    from .domain_arrays import arguments, arrays, broadcasting_pairs, domain_of, spd_matrices, tensors
    from .layouts import broadcast_views, views
    from .manual import ManualGradientReport, compare_manual_gradients
    from .random_programs import Program, Step, calls, programs
    from .steps import StepSizeStudy, step_size_study
    from .taylor import TaylorResult, taylor_test

__all__ = [
    "arguments",
    "arrays",
    "assert_close",
    "assert_gradients",
    "broadcast_views",
    "broadcastable_shapes",
    "broadcasting_pairs",
    "calls",
    "check_gradients",
    "compare_manual_gradients",
    "domain_of",
    "dtypes",
    "indices",
    "ManualGradientReport",
    "Program",
    "programs",
    "shapes",
    "spd_matrices",
    "Step",
    "step_size_study",
    "StepSizeStudy",
    "taylor_test",
    "TaylorResult",
    "tensors",
    "views",
]

_HOME = {
    "assertions": ("assert_close", "assert_gradients"),
    "array_shapes": ("broadcastable_shapes", "dtypes", "indices", "shapes"),
    "decorator": ("check_gradients",),
    "domain_arrays": ("arguments", "arrays", "broadcasting_pairs", "domain_of", "spd_matrices", "tensors"),
    "layouts": ("broadcast_views", "views"),
    "manual": ("ManualGradientReport", "compare_manual_gradients"),
    "random_programs": ("Program", "Step", "calls", "programs"),
    "steps": ("StepSizeStudy", "step_size_study"),
    "taylor": ("TaylorResult", "taylor_test"),
}


def __dir__() -> list[str]:
    return __all__


if not TYPE_CHECKING:  # a type checker reads the imports above, and then notices a name that does not exist

    def __getattr__(name: str) -> Any:
        for module, names in _HOME.items():
            if name in names:
                try:
                    return getattr(import_module(f".{module}", __name__), name)
                except ModuleNotFoundError as error:
                    if (error.name or "").partition(".")[0] != "hypothesis":
                        raise
                    raise missing_extra("hypothesis", "test", f"tg.testing.{name}") from error
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
