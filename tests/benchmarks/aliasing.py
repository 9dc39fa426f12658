"""Programs that write in place or into shared memory: right, refused or silently wrong, here and in PyTorch.

    python tests/benchmarks/aliasing.py             # a Markdown table; PyTorch's column where that is installed
    python tests/benchmarks/aliasing.py --messages  # and what each refusal says

The programs and how the truth is found are in `tests/aliasing_programs.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout, installed or not

import tinygrad_nn as tg
from tests.aliasing_programs import PROGRAMS, Ours, Torch, outcome


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--messages", action="store_true", help="show what refusals say")
    options = command.parse_args()
    libraries = {"tinygrad_nn": Ours()}
    if find_spec("torch"):
        libraries["PyTorch"] = Torch()  # type: ignore[assignment]
    counts = {name: Counter[str]() for name in libraries}
    print("| program | " + " | ".join(libraries) + " |\n|---|" + "---|" * len(libraries))
    for p in PROGRAMS:
        cells, messages = [], []
        for name, library in libraries.items():
            result, message = outcome(p, library)
            counts[name][result] += 1
            cells.append(f"**{result}**" if result == "silently wrong" else result)
            messages += [f"    {name}: {message}"] * bool(message)
        print(f"| {p.name} | {' | '.join(cells)} |")
        if options.messages:
            print("\n".join(messages))
    print()
    for name, count in counts.items():
        print(f"{name}: {count['right']} right, {count['refused']} refused, {count['silently wrong']} silently wrong")
    with tg.autograd.detect_anomaly():
        wrong = sum(outcome(p, Ours())[0] == "silently wrong" for p in PROGRAMS)
    print(f"tinygrad_nn under detect_anomaly: {wrong} silently wrong")


if __name__ == "__main__":
    main()
