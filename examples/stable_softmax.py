"""Softmax and cross-entropy that do not overflow.

Written as in the textbook, softmax is exp(x) / sum(exp(x)), and exp(89) is already too large for float32. Subtracting
the largest logit first changes nothing in exact arithmetic, as exp(x - m) = exp(x) / exp(m) above and below the line,
and leaves no exponent above 0. For the loss, softmax and logarithm are one operation: log never meets a share that
was rounded to 0.
"""

from __future__ import annotations

import numpy as np
from _common import check, parser

import tinygrad_nn as tg
from tinygrad_nn.nn import functional as F


def textbook_softmax(x):
    e = tg.exp(x)
    return e / e.sum(axis=-1, keepdims=True)


def loss_and_gradient(logits, label):
    """The cross-entropy of one row of logits, and its gradient: softmax minus one-hot."""
    x = tg.tensor(np.array([logits], np.float32), requires_grad=True)
    loss = F.cross_entropy(x, np.array([label]))
    loss.backward()
    return loss.item(), x.grad.numpy()[0]


def main(arguments=None):
    parser(__doc__).parse_args(arguments)

    x = np.array([1010.0, 1000.0, 990.0])
    with np.errstate(over="ignore", invalid="ignore"):
        check("textbook softmax([1010, 1000, 990]) is NaN", np.isnan(textbook_softmax(x)).all(), True)

    # From here on every overflow and every NaN is an error, not even a warning.
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        check(
            "softmax([1010, 1000, 990])",
            tg.softmax(x),
            [9.99954600e-01, 4.53978686e-05, 2.06106005e-09],
            rtol=1e-8,
        )
        check("softmax([10, 0, -10]) is the same", tg.softmax(x - 1000.0), tg.softmax(x))

        print("\nCross-entropy in float32, logits from -size to +size:")
        for size in (1.0, 100.0, 1e4):
            logits = [size, 0.0, -size]
            for label, meaning in ((0, "right and sure"), (2, "wrong and sure")):
                loss, gradient = loss_and_gradient(logits, label)
                print(f"  size {size:7.0f}, {meaning}: loss {loss:10.4f}, gradient {gradient}")
                check("  finite", bool(np.isfinite(loss) and np.isfinite(gradient).all()), True)
        # Wrong and sure: the loss is the distance between the logits, the gradient is softmax - one-hot.
        check("loss at ±1e4", loss, 2e4)
        check("gradient at ±1e4", gradient, [1, 0, -1])


if __name__ == "__main__":
    main()
