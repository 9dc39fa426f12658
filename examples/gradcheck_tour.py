"""Gradient checks as tests of your own code: a layer with a backward written by hand, right and with five mistakes.

1. The right layer passes; the report says how small an error would have been seen.
2. At a kink there is no derivative to compare with: the verdict says so.
3. Five mistakes, one at a time: Hypothesis draws inputs and shrinks them, the checker names the operation and the line.
4. A random program: a graph of registered operations, printed as the Python it is, and checked.
"""

from __future__ import annotations

import numpy as np
from _common import check, parser

import tinygrad_nn as tg


class Affine(tg.autograd.Function):
    """x @ w + b for rows x, with a backward written by hand."""

    @staticmethod
    def forward(ctx, x, w, b):
        ctx.save_for_backward(x, w)
        return x @ w + b

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad, grad.sum(axis=0)


class WrongSign(Affine):
    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return -(grad @ w.T), x.T @ grad, grad.sum(axis=0)


class WrongFactor(Affine):
    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad / len(x.data), grad.sum(axis=0)


class UpstreamForgotten(Affine):
    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad, tg.ones_like(grad).sum(axis=0)


class RowsNotSummed(Affine):
    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad @ w.T, x.T @ grad, grad[0]


class Transposed(Affine):
    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad @ w if w.shape[0] == w.shape[1] else grad @ w.T, x.T @ grad, grad.sum(axis=0)


MISTAKES = [WrongSign, WrongFactor, UpstreamForgotten, RowsNotSummed, Transposed]


def right():
    random = np.random.default_rng(0)
    inputs = [random.normal(size=shape) for shape in ((4, 3), (3, 2), (2,))]
    tg.testing.assert_gradients(Affine.apply, *inputs, order=2)  # raises if they are wrong
    result = tg.autograd.gradcheck(Affine.apply, inputs)
    print(result)
    check("the right layer passes", result.verdict == "pass" and result.resolution < 1e-6, True)


def mistakes():
    """What a test file would hold: `@check_gradients(...)` over a function named test_..., run by pytest."""
    from hypothesis import strategies as st

    from tinygrad_nn.domains import Reals
    from tinygrad_nn.testing import arguments, check_gradients

    # Three arrays whose shapes fit together: (rows, n), (n, m) and (m,).
    lengths = st.tuples(*[st.integers(1, 3)] * 3)
    xwb = arguments([Reals()], lengths.map(lambda n: ((n[0], n[1]), (n[1], n[2]), (n[2],))))

    def test_of(layer):
        @check_gradients(xwb, max_examples=50)
        def test_layer(xwb):
            return layer.apply(*map(tg.asarray, xwb))

        return test_layer

    test_of(Affine)()
    found = {}
    for layer in MISTAKES:
        try:
            test_of(layer)()
        except tg.autograd.GradcheckError as error:
            print(f"\n{layer.__name__}\n{error}")
            print("\n".join(error.__notes__))
            found[layer.__name__] = [report.shape for report in error.result.inputs]
    print()
    check("mistakes found", len(found), len(MISTAKES))
    check("the smallest layer whose rows are not summed", found["RowsNotSummed"] == [(2, 1), (1, 1), (1,)], True)
    check("the smallest transposed layer is square", found["Transposed"][1], (2, 2))


def kinks():
    at_zero = tg.autograd.gradcheck(tg.relu, np.zeros(2))
    print(at_zero)
    check("relu at 0", at_zero.verdict == "valid at kink", True)


def program():
    from hypothesis import find

    made = find(
        tg.testing.programs(operations=["sin", "matmul", "maximum", "logsumexp"]),
        lambda p: {"maximum", "logsumexp"} <= {step.op for step in p.steps},
    )
    print(made)
    tg.testing.assert_gradients(made, *made.inputs)
    check("its gradients are right", True, True)


def main(arguments=None):
    parser(__doc__).parse_args(arguments)
    print("\nThe right layer")
    right()
    print("\nAt a kink")
    kinks()
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        print("No drawn inputs, as Hypothesis is not installed. To get them: pip install 'tinygrad_nn[test]'")
        return
    print("\nFive mistakes")
    mistakes()
    print("\nA random program")
    program()


if __name__ == "__main__":
    main()
