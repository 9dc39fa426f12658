"""Memory of a deep chain with and without `checkpoint` every √n layers. Run: python -m tests.benchmarks.checkpoint

Prints, for chains of several lengths, the most bytes that were taken at once during forward and backward, and how
the time compares. Bytes are all that Python and NumPy asked for, so those of the graph's nodes are among them.
"""

from __future__ import annotations

import gc
import math
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import tinygrad_nn as tg

WIDTH, BATCH = 64, 512


def layers(n: int) -> list[Callable[[tg.Tensor], tg.Tensor]]:
    """tanh(x @ w + b), n times, with parameters of their own."""
    tg.manual_seed(0)
    made = [tg.nn.Linear(WIDTH, WIDTH) for _ in range(n)]
    return [lambda x, layer=layer: tg.tanh(layer(x)) for layer in made]


def step(chain: list[Callable[[tg.Tensor], tg.Tensor]], segments: int | None) -> tg.Tensor:
    """One forward and backward pass; returns the gradient of the input."""
    x = tg.ones((BATCH, WIDTH), requires_grad=True)
    if segments is None:
        y = x
        for layer in chain:
            y = layer(y)
    else:
        y = tg.autograd.checkpoint_sequential(chain, segments, x)
    (gradient,) = tg.autograd.grad(y.square().mean(), x)
    assert gradient is not None
    return gradient


def peak(run: Callable[[], object]) -> int:
    """The most bytes that were taken at once while `run` ran."""
    gc.collect()
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def seconds(run: Callable[[], object]) -> float:
    """The best of three."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    print(f"layers of tanh({WIDTH} -> {WIDTH}), batch {BATCH}, float32: {BATCH * WIDTH * 4 // 1024} KiB each result")
    print(f"{'n':>5}  {'without':>10}  {'every √n':>10}  {'share':>6}  {'KiB / √n':>9}  {'time':>6}")
    for n in (250, 1000, 4000):
        chain, segments = layers(n), round(math.sqrt(n))
        assert step(chain, None).tolist() == step(chain, segments).tolist()
        kept, dropped = partial(step, chain, None), partial(step, chain, segments)
        whole, part = peak(kept), peak(dropped)
        slower = seconds(dropped) / seconds(kept)
        print(
            f"{n:>5}  {whole / 2**20:>6.1f} MiB  {part / 2**20:>6.2f} MiB  {part / whole:>6.1%}  "
            f"{part / 1024 / math.sqrt(n):>9.0f}  {slower:>5.2f}×"
        )


if __name__ == "__main__":
    main()
