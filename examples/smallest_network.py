"""The smallest network worth training: 3 inputs, 4 hidden neurons, 1 output, and 60,000 steps of gradient descent.

The output should be the exclusive or of the first two inputs; the third is always 1 and stands in for a bias. The
whole network is one line, the loss another. The original goes on with a backward pass derived by hand; here is none.
"""

from __future__ import annotations

import time

import numpy as np
from _common import QUICK, check, parser, pyplot, save

import tinygrad_nn as tg
from tinygrad_nn import optim

X = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1]], np.float64)
Y = np.array([[0], [1], [1], [0], [0]], np.float64)
STEPS = 60_000
REFERENCE = {  # step: mean of (out - y)² / 2
    0: 0.12147927773116377,
    10_000: 0.0016428776802080154,
    20_000: 0.0004698892266159512,
    30_000: 0.0002577862541365471,
    40_000: 0.00017372224218744627,
    50_000: 0.00012952823214978267,
}


def starting_weights():
    """The original's: NumPy's old random numbers from seed 1, between -1 and 1."""
    random = np.random.RandomState(1)
    return (tg.tensor(2 * random.random_sample(shape) - 1, requires_grad=True) for shape in ((3, 4), (4, 1)))


def train(steps, report):
    """Train for `steps` steps, calling `report(step, mean of (out - y)² / 2)`. Returns the network's last outputs."""
    w0, w1 = starting_weights()
    descent = optim.SGD([w0, w1], lr=0.1)
    for step in range(steps):
        out = tg.sigmoid(tg.sigmoid(X @ w0) @ w1)
        errors = (out - Y) ** 2 / 2
        if step % 100 == 0:
            report(step, errors.data.mean())
        descent.zero_grad()
        errors.sum().backward()
        descent.step()
    return out.detach().numpy()


def draw(plt, history, path):
    figure, panel = plt.subplots(figsize=(6, 4), layout="constrained")
    panel.semilogy(list(history), list(history.values()))
    panel.semilogy(list(REFERENCE), list(REFERENCE.values()), "o", color="C3", label="reference values")
    panel.set(title="The smallest network learns", xlabel="step", ylabel="mean of (out - y)² / 2")
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    save(figure, path)
    plt.close(figure)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    history = {}

    def report(step, mean):
        history[step] = mean
        if step in REFERENCE:
            print(f"step {step:6,}: {float(mean)!r}")
            check("  the original's, to nine digits", mean, REFERENCE[step], rtol=1e-9)

    start = time.perf_counter()
    outputs = train(10_001 if QUICK else STEPS, report)
    print(f"{time.perf_counter() - start:.1f} s; outputs now, where {Y.ravel().astype(int).tolist()} is wanted:")
    check("outputs > 1/2", outputs.ravel() > 0.5, Y.ravel() == 1)
    print(outputs.ravel())
    if plt := pyplot():
        draw(plt, history, options.out / "smallest_network.png")


if __name__ == "__main__":
    main()
