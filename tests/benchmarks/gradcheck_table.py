"""Which gradient checkers give the right verdict? Nineteen small cases, this package beside those that are installed.

    python tests/benchmarks/gradcheck_table.py                 # 50 seeds for ours, 5 for the others: about a minute
    python tests/benchmarks/gradcheck_table.py --seeds 5 relu  # fewer, and only cases with this in their name

Every case is one forward and one gradient, wrapped in each library's mechanism for operations of one's own, and put to
its checker at its default settings: torch.autograd.gradcheck slow and fast, jax.test_util.check_grads and
autograd.test_util.check_grads where they are installed (reverse mode, first order). The output is a Markdown table; ✗
marks a wrong verdict, and a count says for how many seeds where that was not all of them.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout, installed or not

import tinygrad_nn as tg

Array = np.ndarray[Any, Any]


class Case(NamedTuple):
    """`forward(xp, x)` and `gradient(xp, g, x)` in the functions of the library `xp`; `right` lists right verdicts."""

    name: str
    right: tuple[str, ...]
    x: Callable[[np.random.Generator], Array]
    forward: Callable[[Any, Any], Any]
    gradient: Callable[[Any, Any, Any], Any]


OK = ("pass", "valid at kink")
BAD = ("fail",)
UNDECIDABLE = ("pass", "inconclusive")  # no method can tell in this precision


def normal(n: int, dtype: str = "float64") -> Callable[[np.random.Generator], Array]:
    return lambda rng: rng.standard_normal(n).astype(dtype)


def full(value: float) -> Callable[[np.random.Generator], Array]:
    return lambda rng: np.full(5, value)


def one_of(n: int, factor: float) -> Array:
    """Ones, but `factor` in one place."""
    mask = np.ones(n)
    mask[n * 3 // 8] = factor
    return mask


def sin(xp: Any, x: Any) -> Any:
    return xp.sin(x)


def relu(xp: Any, x: Any) -> Any:
    return xp.maximum(x, 0.0 * x)


def times(factor: Any) -> Callable[[Any, Any, Any], Any]:
    return lambda xp, g, x: g * xp.cos(x) * factor


def step(xp: Any, g: Any, x: Any) -> Any:
    return g * (x > 0)


def small(scale: float) -> Callable[[np.random.Generator], Array]:
    return lambda rng: scale * rng.choice([-1.0, 1.0], 5)


CASES = [
    Case("sin", OK, normal(5), sin, times(1.0)),
    Case("gradient ×1.01", BAD, normal(5), sin, times(1.01)),
    Case("gradient ×1.0005", BAD, normal(5), sin, times(1.0005)),
    Case("gradient ×1.00001", BAD, normal(5), sin, times(1.00001)),
    Case("ignores upstream gradient", BAD, normal(5), sin, lambda xp, g, x: xp.cos(x) + 0.0 * g),
    Case("1e-6·sin with zero gradient", BAD, normal(5), lambda xp, x: 1e-6 * xp.sin(x), lambda xp, g, x: 0.0 * g),
    Case("1 of 1000 elements sign-flipped", BAD, normal(1000), sin, times(one_of(1000, -1.0))),
    Case("1 of 1000 elements 2 % off", BAD, normal(1000), sin, times(one_of(1000, 1.02))),
    Case("sort gradient not permuted back", BAD, normal(1000), lambda xp, x: xp.sort(x), lambda xp, g, x: 1.0 * g),
    Case("cumsum gradient not reversed", BAD, normal(5), lambda xp, x: xp.cumsum(x), lambda xp, g, x: xp.cumsum(g)),
    Case("1e9 + sin", OK, normal(5), lambda xp, x: 1e9 + xp.sin(x), times(1.0)),
    Case("1e12 + sin", UNDECIDABLE, normal(5), lambda xp, x: 1e12 + xp.sin(x), times(1.0)),
    Case("sin(1e5·x)", OK, normal(5), lambda xp, x: xp.sin(1e5 * x), lambda xp, g, x: g * 1e5 * xp.cos(1e5 * x)),
    Case("relu 1e-8 from the kink", OK, small(1e-8), relu, step),
    Case("relu at exactly 0, gradient 0", OK, small(0.0), relu, step),
    Case("sqrt at 1e-7", OK, full(1e-7), lambda xp, x: xp.sqrt(x), lambda xp, g, x: g * 0.5 / xp.sqrt(x)),
    Case("exp at 300", OK, full(300.0), lambda xp, x: xp.exp(x), lambda xp, g, x: g * xp.exp(x)),
    Case("sin in float32", OK, normal(5, "float32"), sin, times(1.0)),
    Case("sin in float16", UNDECIDABLE, normal(5, "float16"), sin, times(1.0)),
]  # fmt: skip


# -- the checkers: (case, x, seed) -> verdict --------------------------------------------------------------------------


def ours(case: Case, x: Array, seed: int) -> str:
    class Custom(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return tg.asarray(case.forward(np, x.data))

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return tg.asarray(np.asarray(case.gradient(np, g.data, x.data)).astype(x.dtype))

    return tg.autograd.gradcheck(Custom.apply, (x,), seed=seed, raise_exception=False).verdict


def torch_checker(fast: bool) -> Callable[[Case, Array, int], str]:
    import torch

    def check(case: Case, x: Array, seed: int) -> str:
        class Custom(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.save_for_backward(x)
                return torch.from_numpy(np.array(case.forward(np, x.detach().numpy())))

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                (x,) = ctx.saved_tensors
                found = case.gradient(np, g.detach().numpy(), x.detach().numpy())
                return torch.from_numpy(np.array(found, x.detach().numpy().dtype))

        torch.manual_seed(seed)
        inputs = (torch.from_numpy(x.copy()).requires_grad_(),)
        try:
            good = torch.autograd.gradcheck(Custom.apply, inputs, fast_mode=fast, raise_exception=False)
        except Exception:  # some refusals do not heed raise_exception
            good = False
        return "pass" if good else "fail"

    return check


def jax_checker() -> Callable[[Case, Array, int], str]:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp

    def check(case: Case, x: Array, seed: int) -> str:
        custom = jax.custom_vjp(lambda x: case.forward(jnp, x))
        custom.defvjp(
            lambda x: (case.forward(jnp, x), x), lambda x, g: (jnp.asarray(case.gradient(jnp, g, x), x.dtype),)
        )
        try:
            check_grads(custom, (jnp.asarray(x),), order=1, modes=["rev"])
        except AssertionError:
            return "fail"
        return "pass"

    return check


def autograd_checker() -> Callable[[Case, Array, int], str]:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    def check(case: Case, x: Array, seed: int) -> str:
        custom = primitive(lambda x: case.forward(np, x))
        defvjp(custom, lambda y, x: lambda g: np.asarray(case.gradient(np, g, x)).astype(x.dtype))
        np.random.seed(seed)
        try:
            check_grads(custom, modes=["rev"], order=1)(x)
        except AssertionError:
            return "fail"
        return "pass"

    return check


def checkers() -> Iterator[tuple[str, Callable[[Case, Array, int], str]]]:
    """Every checker that is installed, ours first."""
    yield "tinygrad_nn", ours
    if find_spec("torch"):
        yield "torch slow", torch_checker(fast=False)
        yield "torch fast", torch_checker(fast=True)
    if find_spec("jax"):
        yield "jax", jax_checker()
    if find_spec("autograd"):
        yield "autograd", autograd_checker()


# -- the table ---------------------------------------------------------------------------------------------------------


def verdicts(case: Case, check: Callable[[Case, Array, int], str], seeds: int) -> Counter[str]:
    """How often each verdict was given, over as many draws of the input."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # some checkers warn of precisions below double
        return Counter(check(case, case.x(np.random.default_rng([1, seed])), seed) for seed in range(seeds))


def cell(case: Case, found: Counter[str]) -> str:
    parts = [
        verdict + (f" {n}/{found.total()}" if n < found.total() else "") + ("" if verdict in case.right else " ✗")
        for verdict, n in found.most_common()
    ]
    return ", ".join(parts)


def progress(total: int) -> Any:
    """A progress bar on the error stream where tqdm is installed, else a stand-in."""
    try:
        from tqdm import tqdm
    except ImportError:
        return argparse.Namespace(update=lambda n=1: None, set_description=lambda text: None, close=lambda: None)
    return tqdm(total=total, leave=False, disable=not sys.stderr.isatty())


def table(cases: list[Case], seeds: int, others: int) -> tuple[list[str], dict[str, int]]:
    """The table as lines of Markdown, and the number of (case, seed) on which each checker was wrong."""
    columns = dict(checkers())
    bar = progress(len(cases) * len(columns))
    wrong, wrong_cases = Counter[str](), Counter[str]()
    lines = [f"| case | truth | {' | '.join(columns)} |", "|---|---|" + "---|" * len(columns)]
    for case in cases:
        row = [case.name, "bad" if case.right == BAD else "ok"]
        for name, check in columns.items():
            bar.set_description(f"{case.name}: {name}")
            found = verdicts(case, check, seeds if check is ours else others)
            missed = found.total() - sum(found[v] for v in case.right)
            wrong[name] += missed
            wrong_cases[name] += missed > 0
            row.append(cell(case, found))
            bar.update()
        lines.append("| " + " | ".join(row) + " |")
    bar.close()
    lines.append(f"| wrong of {len(cases)} | | " + " | ".join(str(wrong_cases[n]) for n in columns) + " |")
    return lines, dict(wrong)


def main() -> None:
    """Print the table; exit with an error if ours was wrong anywhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="only cases with one of these in their name")
    parser.add_argument("--seeds", type=int, default=50, help="draws of the input for our checker")
    parser.add_argument("--others", type=int, default=5, help="draws for the other checkers")
    options = parser.parse_args()
    cases = [c for c in CASES if not options.only or any(word in c.name for word in options.only)]
    lines, wrong = table(cases, options.seeds, options.others)
    print("\n".join(lines))
    print(f"\nSeeds: {options.seeds} for tinygrad_nn, {options.others} for the others.")
    if wrong["tinygrad_nn"]:
        raise SystemExit(f"tinygrad_nn was wrong {wrong['tinygrad_nn']} times")


if __name__ == "__main__":
    main()
