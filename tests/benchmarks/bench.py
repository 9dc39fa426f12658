"""How fast, and how large: this framework beside hand-written NumPy and, where it is installed, PyTorch.

    python tests/benchmarks/bench.py                  # everything, about two minutes: Markdown tables
    python tests/benchmarks/bench.py "book MLP" CNN   # these workloads alone

Every column is a process of its own (the text of the workloads is `columns.py`), first with one thread and then with
as many as the libraries like; the number of threads must be known before NumPy is imported. The columns take turns of
a tenth of a second. A time is the median over the turns, a ratio the median of the ratios within a round, so that a
machine that is slow for a while slows both sides. What a column computes is compared with NumPy's before it is timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from math import isclose
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).parent
OURS = "tinygrad_nn"
COLUMNS = ["numpy", OURS, *(["torch"] if find_spec("torch") else [])]
ROUNDS = 7
TURN = 0.1  # seconds
PAUSE = 0.02  # seconds for the threads of the last turn to fall asleep


class Workload(NamedTuple):
    """A method of the columns and its arguments. With `once`, the run that is checked is also the one that is timed."""

    method: str
    arguments: tuple[Any, ...] = ()
    once: bool = False


WORKLOADS = {
    "a + b, (4,) float32": Workload("add"),
    "1,000 scalar operations": Workload("chain", (500, 0.999, 0.001)),
    "tiny net 2-16-16-1 tanh, batch 32": Workload("mlp", ((2, 16, 16, 1), 32, "Tanh", 0, 0.0)),
    "tiny net 2-16-16-1 ReLU, one sample": Workload("mlp", ((2, 16, 16, 1), 1, "ReLU", 0, 0.0)),
    "book MLP 784-50-100-10 sigmoid, batch 100": Workload("mlp", ((784, 50, 100, 10), 100, "Sigmoid", 10, 0.0)),
    "MLP 784-512-256-10 ReLU, momentum, batch 128": Workload("mlp", ((784, 512, 256, 10), 128, "ReLU", 10, 0.9)),
    "CNN 5×5×16, 5×5×32, 512-128-10, batch 64": Workload("cnn"),
    "elementwise chain, 1e3 elements": Workload("elementwise", (10**3,)),
    "elementwise chain, 1e5 elements": Workload("elementwise", (10**5,)),
    "elementwise chain, 1e7 elements": Workload("elementwise", (10**7,)),
    "1,000,000 operations deep": Workload("chain", (10**6, 0.999999, 0.0), once=True),
    "one number used 100,000 times": Workload("fan_in", (10**5,), once=True),
}


class Worker:
    """A process that runs one column; see `columns.main`."""

    def __init__(self, column: str, threads: int | None) -> None:
        command = [sys.executable, str(HERE / "columns.py"), column, *(["1"] if threads == 1 else [])]
        self.column = column
        self.process = subprocess.Popen(
            command, env=environment(threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *request: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"\n{self.column} ended in {request}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def environment(threads: int | None) -> dict[str, str]:
    """The variables of a worker: this tree's package, and the number of threads (None: what the libraries like)."""
    unset = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    env = {k: v for k, v in os.environ.items() if k not in (*unset, "PYTHONDONTWRITEBYTECODE")}
    env["PYTHONPATH"] = os.pathsep.join([str(HERE.parent.parent), *filter(None, [env.get("PYTHONPATH")])])
    return env if threads is None else env | dict.fromkeys(unset, str(threads))


def progress(text: str) -> None:
    """Show what is going on in one line that the next one overwrites."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    elif text:
        sys.stderr.write(text + "\n")
    sys.stderr.flush()


def timed(workers: list[Worker], name: str, work: Workload) -> list[list[float]]:
    """For each round the seconds of each column; before that, what they compute is compared with NumPy's."""
    first, seconds = [], []
    for worker in workers:
        worker("set up", work.method, work.arguments)
        spent, values = worker("check")
        seconds.append(spent)
        first = first or values
        if not all(isclose(a, b, rel_tol=2e-3, abs_tol=1e-5) for a, b in zip(first, values, strict=True)):
            sys.exit(f"\n{name}: {worker.column} computes {values}, NumPy {first}")
    rounds = [seconds] if work.once else []
    for i in range(0 if work.once else ROUNDS):
        turns = {}
        for worker in workers[i % len(workers) :] + workers[: i % len(workers)]:
            time.sleep(PAUSE)
            turns[worker.column] = worker("turn", TURN)
        rounds.append([turns[worker.column] for worker in workers])
    return rounds


def microseconds(seconds: float) -> str:
    """Three significant digits."""
    us = seconds * 1e6
    return f"{us:,.0f}" if us >= 100 else f"{us:.3g}"


def speed(names: list[str], threads: int | None) -> None:
    """Print the table of times for one number of threads."""
    workers = [Worker(column, threads) for column in COLUMNS]
    ratios = [column for column in COLUMNS if column != OURS]
    print(f"\n### {'One thread' if threads == 1 else 'Threads as the libraries choose'}\n")
    head = [f"{column}, µs" for column in COLUMNS] + [f"{OURS} / {column}" for column in ratios]
    print("| one step | " + " | ".join(head) + " |\n|---|" + "---:|" * len(head), flush=True)
    for i, name in enumerate(names):
        progress(f"{i + 1} of {len(names)}: {name}")
        rounds = timed(workers, name, WORKLOADS[name])
        progress("")
        cells = [microseconds(median(column)) for column in zip(*rounds, strict=True)]
        ours = COLUMNS.index(OURS)
        cells += [f"{median(r[ours] / r[COLUMNS.index(column)] for r in rounds):.2f}" for column in ratios]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    for worker in workers:
        worker.close()


def import_time(module: str) -> float:
    """Milliseconds that importing `module` takes once NumPy is imported: the median of 9 processes, bytecode ready."""
    code = f"import time, numpy; t = time.perf_counter(); import {module}; print(1e3 * (time.perf_counter() - t))"

    def once(_: int) -> float:
        return float(subprocess.check_output([sys.executable, "-c", code], env=environment(None)))

    once(0)  # writes the bytecode
    return median(map(once, range(9)))


def memory(column: str, work: Workload, warm_up: int, steps: int) -> float:
    """By how many MiB the process grows over `steps` steps, after `warm_up`."""
    worker = Worker(column, 1)
    worker("set up", work.method, work.arguments)
    worker("peak", warm_up)
    grown = worker("peak", steps)
    worker.close()
    return float(grown)


def size() -> None:
    """Print the table of import time and memory."""
    cnn, tiny = (next(w for name, w in WORKLOADS.items() if name.startswith(start)) for start in ("CNN", "tiny"))
    print("\n### Size\n\n| | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS), flush=True)
    progress("import")
    imports = ["0", *(f"{import_time(column):.0f}" for column in COLUMNS[1:])]
    progress("memory")
    peaks = [f"{memory(column, cnn, 0, 8):.0f}" for column in COLUMNS]
    growths = [f"{memory(column, tiny, 1000, 10_000):.1f}" for column in COLUMNS]
    progress("")
    print("| import, ms more than NumPy | " + " | ".join(imports) + " |")
    print("| CNN step, MiB at the peak | " + " | ".join(peaks) + " |")
    print("| tiny net, MiB more after 10,000 steps | " + " | ".join(growths) + " |")


def main(asked: list[str]) -> None:
    """All tables, or the times of the workloads whose names contain what was asked for."""
    names = [name for name in WORKLOADS if not asked or any(a.lower() in name.lower() for a in asked)]
    if not names:
        sys.exit("No such workload; there are: " + "; ".join(WORKLOADS))
    start = time.perf_counter()
    speed(names, 1)
    speed([name for name in names if not WORKLOADS[name].once], None)
    if not asked:
        size()
    progress(f"{time.perf_counter() - start:.0f} s\n")


if __name__ == "__main__":
    main(sys.argv[1:])
