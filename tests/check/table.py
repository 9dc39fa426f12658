"""`python -m tests.check.table [seeds]`: the public cases judged by this checker, and by PyTorch's where installed.

Prints a Markdown table; verdicts that are wrong carry a ✗.
"""

from __future__ import annotations

import collections
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_nn.autograd import gradcheck

from .cases import BAD, PUBLIC, Case

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]


def ours(case: Case, x: Any, seed: int) -> str:
    return gradcheck(case, x, seed=seed, raise_exception=False).verdict


def peer(fast: bool) -> Callable[[Case, Any, int], str]:
    def verdict(case: Case, x: Any, seed: int) -> str:
        class Custom(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, t: Any) -> Any:
                ctx.save_for_backward(t)
                return torch.from_numpy(np.array(case.forward(t.detach().numpy())))

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                return torch.from_numpy(np.array(case.vjp(g.numpy(), ctx.saved_tensors[0].numpy())))

        t = torch.tensor(x, requires_grad=True)
        try:
            right = torch.autograd.gradcheck(Custom.apply, t, fast_mode=fast, raise_exception=False)
        except Exception:  # low precision makes it raise whatever it was told
            right = False
        return "pass" if right else "fail"

    return verdict


def main(seeds: int) -> None:
    warnings.simplefilter("ignore")  # PyTorch warns of inputs that are not float64
    checkers: dict[str, Callable[[Case, Any, int], str]] = {"tinygrad_nn": ours}
    if torch is not None:
        checkers |= {"torch slow": peer(False), "torch fast": peer(True)}
    print("| case | truth |", " | ".join(checkers), "|\n|---|---|" + "---|" * len(checkers))
    wrong: collections.Counter[str] = collections.Counter()
    for name, case in PUBLIC.items():
        cells = []
        for checker, judge in checkers.items():
            found = collections.Counter(judge(case, case.make(np.random.default_rng(s)), s) for s in range(seeds))
            right = case.right if checker == "tinygrad_nn" or case.right == BAD else ("pass",)
            missed = set(found) - set(right)
            wrong[checker] += bool(missed)
            cells.append(", ".join(f"{v} {n}" for v, n in found.items()) + (" ✗" if missed else ""))
        print(f"| {name} | {'bad' if case.right == BAD else 'ok'} |", " | ".join(cells), "|")
    print(f"| wrong of {len(PUBLIC)} | |", " | ".join(str(wrong[c]) for c in checkers), "|")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
