"""Peak memory of a training step of the CNN of examples/mnist.py, beside PyTorch. Linux only.

    python tests/benchmarks/memory.py            # batches of 100 images, five processes of each

Every figure is by how much the largest resident size of a fresh process grows above what it was (VmHWM after
`clear_refs`): by the network, its gradients, the batch, and all that forward, backward and SGD with momentum need in
twenty steps. First above an idle process, in which the framework was imported and nothing else done; then above one
that has trained a step with a single image, and so has loaded whatever code a framework loads at first use. One
thread. Then what the graph keeps, by line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

OURS, BATCH, PROCESSES, STEPS = "tinygrad_nn", 100, 5, 20
ROOT = Path(__file__).parent.parent.parent


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def network(nn: Any) -> Any:
    """The CNN of examples/mnist.py."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def worker(name: str, state: str) -> None:
    """Print the growth above the process that is idle or warm, in bytes."""
    import numpy as np

    lib = import_module(name)
    nn, optim = import_module(f"{name}.nn"), import_module(f"{name}.optim")
    cross_entropy = import_module(f"{name}.nn.functional").cross_entropy
    if name == "torch":
        lib.set_num_threads(1)

    def train(count: int, steps: int) -> None:
        rng = np.random.default_rng(0)
        x, t = rng.random((count, 1, 28, 28), np.float32), rng.integers(0, 10, count)
        images, labels = (lib.from_numpy(a) if name == "torch" else lib.asarray(a) for a in (x, t))
        model = network(nn)
        descent = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(steps):
            descent.zero_grad()
            cross_entropy(model(images), labels).backward()
            descent.step()

    if state == "warm":
        train(1, 1)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the largest size so far is forgotten
    train(BATCH, STEPS)
    print(resident("VmHWM") - before)


def measure(name: str, state: str) -> float:
    """The median of the growth, in MiB."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
    runs = []
    for _ in range(PROCESSES):
        command = [sys.executable, __file__, name, state]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        runs.append(int(done.stdout) / 2**20)
    return median(runs)


def main() -> None:
    """Print the table, and the ledger of our forward pass."""
    for state in ("idle", "warm"):
        ours = measure(OURS, state)
        print(f"above the {state} process: {OURS} {ours:.1f} MiB", end="")
        if find_spec("torch"):
            theirs = measure("torch", state)
            print(f", torch {theirs:.1f} MiB, ratio {ours / theirs:.2f}", end="")
        print()
    sys.path.insert(0, str(ROOT))
    import numpy as np

    import tinygrad_nn as tg

    x = tg.tensor(np.random.default_rng(0).random((BATCH, 1, 28, 28), np.float32))
    with tg.autograd.record_lines():
        h, model = x, network(tg.nn)
        for layer in model:
            h = layer(h)
        loss = tg.nn.functional.cross_entropy(h, np.zeros(BATCH, int))
    del h
    print("\nWhat is kept for backward:")
    print(tg.autograd.memory())
    loss.backward()


if __name__ == "__main__":
    worker(*sys.argv[1:]) if len(sys.argv) == 3 else main()
