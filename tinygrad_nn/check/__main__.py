"""`python -m tinygrad_nn.check module:function --shape 3,4`: a gradient check from the command line."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import TinygradError
from ..function import Function
from .gradcheck import gradcheck

PASS, FAIL, USAGE, INCONCLUSIVE = 0, 1, 2, 3
EPILOG = """\
exit status: 0 pass, or valid at a kink; 1 wrong gradient; 2 the function could not be run; 3 inconclusive

examples:
  python -m tinygrad_nn.check mylayers:gelu --shape 3,4
  python -m tinygrad_nn.check mylayers:affine --shape 5,3 --shape 3,2 --shape 2 --order 2
  python -m tinygrad_nn.check mylayers:entropy --shape 4 --range 0.1,1 --dtype float32
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    arguments = argparse.ArgumentParser(
        prog="python -m tinygrad_nn.check",
        description="Check the gradients of a function at random inputs, against the slopes that its values show.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    arguments.add_argument(
        "target", metavar="module:function", help="what to check: a function, a module, or a Function subclass"
    )
    arguments.add_argument(
        "--shape",
        type=_shape,
        action="append",
        default=[],
        metavar="3,4",
        help="the shape of an input, once for each; () for a single number",
    )
    arguments.add_argument("--dtype", choices=("float64", "float32", "float16"), default="float64")
    arguments.add_argument(
        "--range",
        type=_range,
        default=(-2.0, 2.0),
        metavar="LOW,HIGH",
        help="where inputs are drawn, evenly (default: -2,2; write --range=-2,2)",
    )
    arguments.add_argument("--order", type=int, choices=(1, 2), default=1, help="2 checks second derivatives as well")
    arguments.add_argument(
        "--tolerance", type=float, default=1.0, help="multiplies the derived tolerances (default: 1)"
    )
    arguments.add_argument("--seed", type=int, default=0, help="of the inputs and the directions (default: 0)")
    return arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check, print its report, and return the exit status."""
    given = parser().parse_args(arguments)
    rng = np.random.default_rng(given.seed)
    low, high = given.range
    inputs = [np.asarray(rng.uniform(low, high, shape), given.dtype) for shape in given.shape]
    try:
        fn = load(given.target)
        result = gradcheck(
            fn, inputs, order=given.order, tolerance=given.tolerance, seed=given.seed, raise_exception=False
        )
    except (TinygradError, _NotFound) as error:
        print(f"{given.target}: {error}", file=sys.stderr)
        return USAGE
    except Exception:  # in the user's code
        traceback.print_exc()
        shapes = ", ".join(str(shape) for shape in given.shape)
        print(f"{given.target} cannot be called with inputs of shapes {shapes}", file=sys.stderr)
        return USAGE
    print(f"{given.target}, seed {given.seed}, inputs in [{low:g}, {high:g}]")
    print(result)
    return PASS if result else INCONCLUSIVE if result.verdict == "inconclusive" else FAIL


def load(target: str) -> Callable[..., Any]:
    """The object that `module:name` means; of a `Function` subclass, its `apply`."""
    module_name, colon, name = target.partition(":")
    if not colon or not name:
        raise _NotFound("write module:function, such as mylayers:gelu")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise _NotFound(f"no module {error.name!r} here or among what is installed") from None
        raise
    for part in name.split("."):
        if not hasattr(found, part):
            raise _NotFound(f"{getattr(found, '__name__', found)} has no {part!r}")
        found = getattr(found, part)
    if isinstance(found, type) and issubclass(found, Function):
        found = found.apply
    if not callable(found):
        raise _NotFound(f"{name} is not callable: {found!r:.80}")
    return found  # type: ignore[no-any-return]


class _NotFound(Exception):
    """The target names nothing that can be called."""


def _shape(text: str) -> tuple[int, ...]:
    """`3,4` or `(3, 4)`; `()` for a single number."""
    try:
        shape = tuple(int(n) for n in text.strip("() ").split(",") if n.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; write 3,4 or ()") from None
    if any(n < 0 for n in shape):
        raise argparse.ArgumentTypeError(f"{text!r}: an axis cannot have a negative length")
    return shape


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range; write LOW,HIGH, such as 0.1,1") from None
    if not low < high:
        raise argparse.ArgumentTypeError(f"{text!r}: the first bound must be the smaller one")
    return low, high


if __name__ == "__main__":
    sys.exit(main())
