"""How fast are Jacobians, Hessians and products with them? Beside PyTorch and HIPS autograd, where installed.

    python tests/benchmarks/derivatives.py     # a minute: a Markdown table

One process and one thread; the libraries take turns of a tenth of a second. A time is the median over the turns, a
ratio the median of the ratios within a round. PyTorch has several ways to say the same, which are all timed. What each
computes is compared before it is timed.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # must be known before NumPy is imported

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout, installed or not

import tinygrad_nn as tg

ROUNDS = 9
TURN = 0.1  # seconds
SIZE = 50
Way = Callable[[], Any]

rng = np.random.default_rng(0)
X, V = rng.normal(size=SIZE), rng.normal(size=SIZE)
W1, W2, B1, B2, X64 = (rng.normal(size=shape) / 8 for shape in ((64, 64), (64, 64), 64, 64, 64))


def rosenbrock(x: Any) -> Any:
    """Of an array of any of the libraries."""
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def ours() -> dict[str, dict[str, Way]]:
    """The ways of this package, by task."""
    x, v, x64 = tg.Tensor(X), tg.Tensor(V), tg.Tensor(X64)
    w1, w2, b1, b2 = map(tg.Tensor, (W1, W2, B1, B2))

    def net(x: Any) -> Any:
        return tg.tanh(x @ w1 + b1) @ w2 + b2

    jacobian, hessian = tg.func.jacrev(net), tg.func.hessian(rosenbrock)
    return {
        "gradient": {"func.grad": lambda: tg.func.grad(rosenbrock)(x)},
        "HVP": {"func.hvp": lambda: tg.func.hvp(rosenbrock, x, v)},
        "Hessian": {"func.hessian": lambda: hessian(x)},
        "Jacobian": {"func.jacrev": lambda: jacobian(x64), "func.jacfwd": lambda: tg.func.jacfwd(net)(x64)},
    }


def pytorch() -> dict[str, dict[str, Way]]:
    """The ways of PyTorch."""
    import torch

    torch.set_num_threads(1)
    x, v, x64, w1, w2, b1, b2 = map(torch.tensor, (X, V, X64, W1, W2, B1, B2))
    functional = torch.autograd.functional

    def net(x: Any) -> Any:
        return torch.tanh(x @ w1 + b1) @ w2 + b2

    def gradient() -> Any:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(rosenbrock(leaf), leaf)[0]

    def double_backward() -> Any:
        leaf = x.detach().requires_grad_()
        (g,) = torch.autograd.grad(rosenbrock(leaf), leaf, create_graph=True)
        return torch.autograd.grad(g, leaf, v)[0]

    return {
        "gradient": {"func.grad": lambda: torch.func.grad(rosenbrock)(x), "autograd.grad": gradient},
        "HVP": {
            "jvp of grad": lambda: torch.func.jvp(torch.func.grad(rosenbrock), (x,), (v,))[1],
            "vjp of grad": lambda: torch.func.vjp(torch.func.grad(rosenbrock), x)[1](v)[0],
            "functional.hvp": lambda: functional.hvp(rosenbrock, x, v)[1],
            "functional.vhp": lambda: functional.vhp(rosenbrock, x, v)[1],
            "autograd.grad twice": double_backward,
        },
        "Hessian": {
            "func.hessian": lambda: torch.func.hessian(rosenbrock)(x),
            "jacrev of jacrev": lambda: torch.func.jacrev(torch.func.jacrev(rosenbrock))(x),
            "functional.hessian": lambda: functional.hessian(rosenbrock, x),
            "functional.hessian, vectorized": lambda: functional.hessian(rosenbrock, x, vectorize=True),
        },
        "Jacobian": {
            "func.jacrev": lambda: torch.func.jacrev(net)(x64),
            "func.jacfwd": lambda: torch.func.jacfwd(net)(x64),
            "functional.jacobian": lambda: functional.jacobian(net, x64),
            "functional.jacobian, vectorized": lambda: functional.jacobian(net, x64, vectorize=True),
        },
    }


def hips() -> dict[str, dict[str, Way]]:
    """The ways of HIPS autograd."""
    import autograd
    import autograd.numpy as anp

    def net(x: Any) -> Any:
        return anp.dot(anp.tanh(anp.dot(x, W1) + B1), W2) + B2

    def rosen(x: Any) -> Any:
        return anp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    product = autograd.hessian_vector_product(rosen)
    return {
        "gradient": {"grad": lambda: autograd.grad(rosen)(X)},
        "HVP": {
            "hessian_vector_product": lambda: product(X, V),
            "make_hvp": lambda: autograd.make_hvp(rosen)(X)[0](V),
        },
        "Hessian": {"hessian": lambda: autograd.hessian(rosen)(X)},
        "Jacobian": {"jacobian": lambda: autograd.jacobian(net)(X64)},
    }


LIBRARIES: dict[str, Callable[[], dict[str, dict[str, Way]]]] = {"tinygrad_nn": ours}
if find_spec("torch"):
    LIBRARIES["torch"] = pytorch
if find_spec("autograd"):
    LIBRARIES["autograd"] = hips


def turn(way: Way) -> float:
    """Seconds for one call, over a turn."""
    calls, start = 0, time.perf_counter()
    while True:
        way()
        calls += 1
        taken = time.perf_counter() - start
        if taken >= TURN:
            return taken / calls


def main() -> None:
    """Compare, then time, then print."""
    made = {name: library() for name, library in LIBRARIES.items()}
    print("| task | library | way | time, µs | our best / this |\n|---|---|---|---|---|")
    for task, own in made["tinygrad_nn"].items():
        ways = {(name, label): way for name, tasks in made.items() for label, way in tasks[task].items()}
        wanted = np.asarray(next(iter(own.values()))().data)
        for (name, label), way in ways.items():
            found = way()
            array = np.asarray(found.data if name == "tinygrad_nn" else found.detach() if name == "torch" else found)
            np.testing.assert_allclose(array, wanted, rtol=1e-9, atol=1e-9, err_msg=f"{task}: {name} {label}")
        times: dict[tuple[str, str], list[float]] = {key: [] for key in ways}
        for _ in range(ROUNDS):
            for key, way in ways.items():
                times[key].append(turn(way))
        best = times[min((key for key in ways if key[0] == "tinygrad_nn"), key=lambda key: median(times[key]))]
        for key in ways:
            ratio = median(a / b for a, b in zip(best, times[key], strict=True))
            print(f"| {task} | {' | '.join(key)} | {median(times[key]) * 1e6:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
