"""Does the public gradient checker accept what is right? Random programs and calls of operations, by Hypothesis.

    python tests/benchmarks/false_alarms.py --programs 50000 --calls 50000   # an hour on one core
    python tests/benchmarks/false_alarms.py --programs 20000 --seed 7000     # others
    python tests/benchmarks/false_alarms.py --calls 20000 --kinks            # arguments at kinks and ties
    python tests/benchmarks/false_alarms.py --calls 20000 --order 2          # second derivatives as well

Every example is a right function, as the registry's rules are checked by other means, too: a verdict of "fail" is a
false alarm, printed with the program, and makes the command fail. What was "inconclusive" is counted and, with
`--doubts`, printed. Examples come in pieces of 100, each with a seed of its own: the same command draws the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout, installed or not

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.registry import OPS

PIECE = 100
SMOOTH = sorted(name for name, op in OPS.items() if op.vjps)


@dataclass(frozen=True)
class Piece:
    """A hundred examples: programs if `op` is None, else calls of that operation."""

    seed: int
    op: str | None = None
    kinks: bool = False
    order: int = 1

    def strategy(self) -> Any:
        return tg.testing.programs() if self.op is None else tg.testing.calls(self.op, kinks=self.kinks)


def check(piece: Piece) -> tuple[Counter[str], list[tuple[str, str]]]:
    """The verdicts, and the text of each example that was not accepted, after its verdict."""
    verdicts: Counter[str] = Counter()
    doubted: list[tuple[str, str]] = []

    @hypothesis.seed(piece.seed)
    @hypothesis.settings(
        max_examples=PIECE,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(piece.strategy())
    def collect(program: Any) -> None:
        if not any(x.size for x in program.inputs):
            return
        result = tg.autograd.gradcheck(program, program.inputs, order=piece.order, raise_exception=False)
        verdicts[result.verdict] += 1
        if result.verdict not in ("pass", "valid at kink"):
            doubted.append((result.verdict, f"seed {piece.seed}\n{program}\n{result}"))

    collect()
    return verdicts, doubted


def with_kinks(name: str) -> bool:
    """Whether the operation declares kinks or ties."""
    try:
        tg.testing.calls(name, kinks=True)
    except ArgumentError:
        return False
    return True


def main() -> None:
    """Print the verdicts and every false alarm; exit with an error if there is any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=0, help="random programs of up to six operations, about")
    parser.add_argument("--calls", type=int, default=0, help="calls of single operations in turn, about")
    parser.add_argument("--kinks", action="store_true", help="calls at kinks and ties, of operations that have any")
    parser.add_argument("--order", type=int, choices=(1, 2), default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the first piece of 100")
    parser.add_argument("--doubts", action="store_true", help="print what was inconclusive, too")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    names = [name for name in SMOOTH if not options.kinks or with_kinks(name)]
    pieces = [Piece(options.seed + i, None, False, options.order) for i in range(options.programs // PIECE)]
    pieces += [
        Piece(options.seed + i, names[i % len(names)], options.kinks, options.order)
        for i in range(options.calls // PIECE)
    ]
    start = time.perf_counter()
    verdicts: Counter[str] = Counter()
    with ProcessPoolExecutor(options.processes) as pool:
        for i, (found, doubted) in enumerate(pool.map(check, pieces), 1):
            verdicts += found
            for verdict, text in doubted:
                if verdict == "fail" or options.doubts:
                    print(f"--- {verdict}: {text}", flush=True)
            if i % 50 == 0 or i == len(pieces):
                seconds = time.perf_counter() - start
                print(f"{i} of {len(pieces)} pieces, {seconds:.0f} s: {dict(verdicts)}", flush=True)
    print(f"{verdicts.total()} checks, {verdicts['fail']} false alarms")
    if verdicts["fail"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
