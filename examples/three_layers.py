"""A three-layer network with given weights: what a forward pass is, number by number.

    x (2) -> affine, sigmoid (3) -> affine, sigmoid (2) -> affine (2) = y

The weights are written for row vectors, x @ W + b, as textbooks do.
"""

from __future__ import annotations

import numpy as np
from _common import check, parser

import tinygrad_nn as tg

NETWORK = {
    "W1": np.array([[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]]),
    "b1": np.array([0.1, 0.2, 0.3]),
    "W2": np.array([[0.1, 0.4], [0.2, 0.5], [0.3, 0.6]]),
    "b2": np.array([0.1, 0.2]),
    "W3": np.array([[0.1, 0.3], [0.2, 0.4]]),
    "b3": np.array([0.1, 0.2]),
}


def forward(network, x):
    z1 = tg.sigmoid(x @ network["W1"] + network["b1"])
    z2 = tg.sigmoid(z1 @ network["W2"] + network["b2"])
    return z2 @ network["W3"] + network["b3"]


def main(arguments=None):
    parser(__doc__).parse_args(arguments)
    x = np.array([1.0, 0.5])
    y = forward(NETWORK, x)
    check("y", y, [0.31682708, 0.69627909], rtol=2e-8)

    # The same function on tensors: now it can be asked how y changes with each weight.
    tensors = {name: tg.tensor(array, requires_grad=True) for name, array in NETWORK.items()}
    y = forward(tensors, x)
    check("y, recorded", y.detach(), [0.31682708, 0.69627909], rtol=2e-8)
    y.sum().backward()
    for name, tensor in tensors.items():
        print(f"how y[0] + y[1] changes with {name}:\n{tensor.grad.numpy()}")
    check("  with b3: each output by itself", tensors["b3"].grad, [1, 1])


if __name__ == "__main__":
    main()
