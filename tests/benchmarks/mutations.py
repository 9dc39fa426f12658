"""Does the public gradient checker catch wrong rules? Every rule of every operation is broken in every usual way.

    python tests/benchmarks/mutations.py                       # the whole suite: several minutes
    python tests/benchmarks/mutations.py --only matmul softmax # these operations
    python tests/benchmarks/mutations.py --examples 100000     # and as many checks of right rules: false alarms

A mutant is an operation with one rule (vjp or jvp, of one argument) broken; it is caught by a case, that is by shapes
and parameters the operation declares, if `tg.autograd.gradcheck` says "fail" there. Where it gives the very numbers of
the right rule to rounding (zero times anything is zero) it is no mutant: such cases are counted apart. Every other case
that does not catch its mutant is listed as a survivor.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout, installed or not

import tinygrad_nn as tg
from tests import contract, strategies
from tinygrad_nn.domains import Case
from tinygrad_nn.graph import Scatter
from tinygrad_nn.registry import OPS, Each, Op, Rule
from tinygrad_nn.tensor import Tensor, apply

LARGE = {1: ((1000,),), 2: ((10, 100), (100,)), 3: ((10, 100), (100,), ())}  # of elementwise operations, one by arity

Mutation = Callable[[Any], Any]


def plain(result: Any) -> Any:
    """What a rule gives, as an array: reading at an index sends back where and what."""
    if isinstance(result, Scatter):
        total = np.zeros(result.shape, result.dtype)
        result.add_to(total)
        return total
    return result


def on_array(change: Callable[[np.ndarray[Any, Any]], Any]) -> Mutation:
    """A change of numbers only: the result of a walk that is recorded stays as it is."""
    return lambda result: result if isinstance(result, Tensor) else np.asarray(change(np.array(result)))[()]


def one_wrong(result: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Two percent more of the largest element: in the case of 1,000 elements one of them."""
    if result.size:
        result.flat[np.argmax(np.abs(result))] *= 1.02
    return result


def square_transposed(result: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.swapaxes(result, -1, -2) if result.ndim > 1 and result.shape[-1] == result.shape[-2] else result


def ones_like(t: Any) -> Any:
    return Tensor(np.ones(t.shape, t.dtype)) if isinstance(t, Tensor) else np.ones(t.shape, t.dtype)[()]


RESULTS: dict[str, Mutation] = {  # what becomes of the result of a right rule
    "×(1+1e-5)": lambda r: r * (1 + 1e-5),
    "×1.01": lambda r: r * 1.01,
    "×-1": lambda r: -r,
    "×0": lambda r: r * 0.0,
    "transposed": on_array(square_transposed),
    "shifted": on_array(lambda r: np.roll(r, 1)),
    "one element": on_array(one_wrong),
}
KINDS = [*RESULTS, "no upstream", "no broadcast sum"]


def unsummed(result: Any, argument: Any) -> Any:
    """A gradient cut to the shape of its argument where it should be summed: the first of what was broadcast."""
    shape = getattr(argument, "shape", ())
    index = (0,) * (result.ndim - len(shape)) + tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)
    return result[index]


@dataclass(frozen=True)
class Mutant:
    """One rule of one operation, broken in one way; `mode` is "both" where one function is the vjp and the jvp."""

    op: str
    mode: str
    argument: int
    kind: str

    def __str__(self) -> str:
        return f"{self.op}: {self.mode} by argument {self.argument}, {self.kind}"

    def operation(self) -> Op:
        """The broken operation, not in the registry."""
        op, i = OPS[self.op], self.argument
        changes: dict[str, Any] = {}
        for field in ("vjps", "jvps"):
            if self.mode not in ("both", field[:3]):
                continue
            rules = getattr(op, field)
            changes[field] = _with(rules, i, self._rule(rules[i], field))
        return _callable(replace(op, **changes))

    def _rule(self, rule: Rule, field: str) -> Rule:
        i = self.argument
        if self.kind == "no upstream":
            return lambda t, y, *args, **params: plain(rule(ones_like(t), y, *args, **params))
        if self.kind != "no broadcast sum":
            change = RESULTS[self.kind]
            return lambda t, y, *args, **params: change(plain(rule(t, y, *args, **params)))
        if field == "jvps":
            return rule
        return lambda t, y, *args, **params: unsummed(rule(t, y, *args, **params), args[i])


def _with(rules: Any, i: int, wrong: Rule) -> Any:
    def chosen(j: int, t: Any, y: Any, *args: Any, **params: Any) -> Any:
        return (wrong if j == i else rules[j])(t, y, *args, **params)

    return Each(chosen)


def _callable(op: Op) -> Op:
    op.call = lambda *args, **params: apply(op, *args, **params)
    return op


# -- what an operation is checked on -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """Arrays and parameters to call an operation with."""

    args: tuple[np.ndarray[Any, Any], ...]
    params: dict[str, Any]

    @property
    def moving(self) -> tuple[int, ...]:
        """The arguments that have a gradient."""
        return tuple(i for i, a in enumerate(self.args) if a.dtype.kind == "f" and a.size)


def cases(op: Op) -> list[Case]:
    """The declared cases, and for elementwise operations one with 1,000 elements, and a square one."""
    found = list(contract.cases(op))
    if op.kind == "elementwise" and not op.cases:
        n = contract.arity(op)
        found += [Case(LARGE[n]), Case(((3, 3),) * n)]
    return found


def examples(op: Op, draw: int = 0) -> list[Example]:
    """Every case with drawn inputs inside the domain; empty ones, which prove nothing, left out."""
    found = []
    for n, case in enumerate(cases(op)):
        rng = np.random.default_rng(zlib.crc32(f"{op.name} {n} {draw}".encode()))
        try:
            args = strategies.sample(contract.domains(op), case.shapes, rng)
        except AssertionError:  # so many distinct values do not fit into the domain
            continue
        example = Example(args, case.params)
        if example.moving:
            found.append(example)
    return found


def gradcheck(op: Op, example: Example, seed: int) -> str:
    """The public checker's verdict on `op`, as a function of its differentiable arguments."""

    def fn(*moving: Any) -> Any:
        args: list[Any] = list(example.args)
        for i, x in zip(example.moving, moving, strict=True):
            args[i] = x
        return op.call(*args, **example.params)

    inputs = tuple(example.args[i] for i in example.moving)
    return tg.autograd.gradcheck(fn, inputs, seed=seed, raise_exception=False).verdict


# -- mutants -----------------------------------------------------------------------------------------------------------


def mutants(names: Sequence[str]) -> Iterator[Mutant]:
    """Every rule of these operations with every mistake; the sum over broadcast axes where something broadcasts."""
    for name in names:
        op = OPS[name]
        arguments = sorted({i for e in examples(op) for i in e.moving})
        modes = {"elementwise": ["both"], "linear": ["vjp"], "general": ["vjp", "jvp"]}[op.kind]
        for mode in modes:
            for i in arguments:
                for kind in KINDS:
                    if kind == "no broadcast sum" and (op.kind != "elementwise" or len(op.vjps) < 2):
                        continue
                    if kind in ("no upstream", "transposed") and mode == "jvp":
                        continue  # a jvp has a tangent of its input's shape, which other mistakes cover
                    yield Mutant(name, mode, i, kind)


def differs(mutant: Mutant, op: Op, example: Example) -> bool:
    """Whether the broken rule gives other numbers than the right one here, by more than rounding."""
    wanted, given = (_numbers(o, example, mutant.mode, np.random.default_rng(7)) for o in (OPS[mutant.op], op))
    if len(wanted) != len(given):
        return True
    for a, b in zip(wanted, given, strict=True):
        if a is not None or b is not None:
            if a is None or b is None or a.shape != b.shape:
                return True
            if not np.all(np.abs(a - b) <= 1e-13 * np.max(np.abs(a), initial=0.0)):
                return True
    return False


def _numbers(op: Op, example: Example, mode: str, rng: np.random.Generator) -> list[Any]:
    """The gradients (for a jvp the tangent) that an operation gives for random ones; None for what raises."""
    inputs = [Tensor(a, requires_grad=i in example.moving) for i, a in enumerate(example.args)]
    with np.errstate(all="ignore"):
        if mode == "jvp":
            moving = example.moving

            def fn(*xs: Any) -> Any:
                args: list[Any] = list(example.args)
                for i, x in zip(moving, xs, strict=True):
                    args[i] = x
                return op.call(*args, **example.params)

            primals = [example.args[i] for i in moving]
            return [tg.func.jvp(fn, primals, [rng.standard_normal(p.shape) for p in primals])[1].data]
        try:
            y = op.call(*inputs, **example.params)
            y.backward(rng.standard_normal(y.shape))
        except Exception:  # a wrong rule may give what the engine cannot use
            return []
    return [None if inputs[i].grad is None else inputs[i].grad.data for i in example.moving]


def judge(mutant: Mutant) -> tuple[Mutant, list[str]]:
    """The verdict on a mutant for each case; "equal" where it is none, and "fail" also for one that raises."""
    op = mutant.operation()
    return mutant, [
        _verdict(op, e, n) if differs(mutant, op, e) else "equal" for n, e in enumerate(examples(OPS[mutant.op]))
    ]


def _verdict(op: Op, example: Example, seed: int) -> str:
    try:
        return gradcheck(op, example, seed)
    except Exception:  # a rule that raises, as for want of shape, has given itself away
        return "fail"


def false_alarms(name: str, draws: range) -> tuple[Counter[str], list[str]]:
    """The verdicts on a right operation, and the examples that were not accepted."""
    verdicts: Counter[str] = Counter()
    doubted = []
    for draw in draws:
        for n, example in enumerate(examples(OPS[name], draw)):
            verdict = gradcheck(OPS[name], example, draw)
            verdicts[verdict] += 1
            if verdict not in ("pass", "valid at kink"):
                doubted.append(f"{verdict}: {name}, case {n}, draw {draw}, params {example.params}")
    return verdicts, doubted


# -- the report --------------------------------------------------------------------------------------------------------


def smooth() -> list[str]:
    """The operations that have derivatives."""
    return sorted(name for name, op in OPS.items() if op.vjps and examples(op))


def progress(jobs: Any, total: int, what: str) -> Any:
    """A progress bar on the error stream, where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return jobs
    return tqdm(jobs, total=total, desc=what, leave=False, disable=not sys.stderr.isatty())


def tally(outcomes: list[list[str]]) -> tuple[int, int, int, int, int, int]:
    """Mutants, those that a case caught; cases, those that caught, that did not, and that had nothing to catch."""
    real = [[v for v in outcome if v != "equal"] for outcome in outcomes]
    real = [verdicts for verdicts in real if verdicts]
    every = Counter(v for verdicts in real for v in verdicts)
    equal = sum(outcome.count("equal") for outcome in outcomes)
    caught = every["fail"]
    return len(real), sum("fail" in v for v in real), every.total(), caught, every.total() - caught, equal


def _draws_job(job: tuple[str, range]) -> tuple[Counter[str], list[str]]:
    return false_alarms(*job)


def report_alarms(checked: list[tuple[Counter[str], list[str]]]) -> int:
    """Print the verdicts on what is right, and the first that were not accepted; the number of false alarms."""
    verdicts = sum((v for v, _ in checked), Counter[str]())
    print(f"\nRight rules: {verdicts.total()} checks: {dict(verdicts)}; {verdicts['fail']} false alarms")
    for text in [text for _, texts in checked for text in texts][:50]:
        print(f"- {text}")
    return verdicts["fail"]


def main() -> None:
    """Print catch rate, survivors, and false alarms; exit with an error if there are any of the latter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", metavar="OP", help="only these operations")
    parser.add_argument("--examples", type=int, default=1000, help="checks of right rules, at least (default 1000)")
    parser.add_argument("--processes", type=int, default=None)
    options = parser.parse_args()
    names = options.only or smooth()
    planned = list(mutants(names))
    with ProcessPoolExecutor(options.processes) as pool:
        results = list(progress(pool.map(judge, planned, chunksize=8), len(planned), "mutants"))
        per_draw = sum(len(examples(OPS[name])) for name in names)
        rounds = -(-options.examples // per_draw)
        jobs = [(n, range(a, min(a + 20, rounds + 1))) for a in range(1, rounds + 1, 20) for n in names]
        checked = list(progress(pool.map(_draws_job, jobs), len(jobs), "right rules"))
    print(f"{len(names)} operations, {len(planned)} mutants\n")
    print("| mistake | mutants | caught by a case | cases | caught | survived | equal |\n|---|---|---|---|---|---|---|")
    for kind in [*KINDS, "all"]:
        outcomes = [outcome for mutant, outcome in results if kind in (mutant.kind, "all")]
        print(f"| {kind} | " + " | ".join(map(str, tally(outcomes))) + " |")
    mutant_count, mutants_caught, count, caught, *_ = tally([outcome for _, outcome in results])
    print(f"\nCaught: {mutants_caught / mutant_count:.2%} of the mutants, {caught / count:.2%} of the cases")
    for mutant, outcome in results:
        for n, verdict in enumerate(outcome):
            if verdict not in ("fail", "equal"):
                print(f"- survived: {mutant}; case {n}: {verdict}")
    alarms = report_alarms(checked)
    if alarms:
        raise SystemExit(f"{alarms} false alarms")


if __name__ == "__main__":
    main()
