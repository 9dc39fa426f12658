"""Array arithmetic: the NumPy that neural networks are made of, on tensors.

Tensors behave as NumPy's arrays do: same names, same broadcasting, same indexing. What they add is that gradients flow
back through all of it, shown at the end.
"""

from __future__ import annotations

import numpy as np
from _common import check, parser, pyplot, save

import tinygrad_nn as tg


def lesson():
    print("-- shapes")
    a = tg.tensor([[1, 2], [3, 4]])
    check("a", a, [[1, 2], [3, 4]])
    check("a.shape", a.shape, (2, 2))
    check("a.ndim, a.size", (a.ndim, a.size), (2, 4))

    print("-- element by element, and broadcasting: an axis that is missing or 1 is stretched")
    check("a + a", a + a, [[2, 4], [6, 8]])
    check("a * a", a * a, [[1, 4], [9, 16]])
    check("a * 10", a * 10, [[10, 20], [30, 40]])
    check("a * [10, 20]", a * tg.tensor([10, 20]), [[10, 40], [30, 80]])
    check("a * [[10], [20]]", a * tg.tensor([[10], [20]]), [[10, 20], [60, 80]])

    print("-- matrix product: rows times columns")
    check("a @ [[5, 6], [7, 8]]", a @ tg.tensor([[5, 6], [7, 8]]), [[19, 22], [43, 50]])
    check("[1, 2] @ [[1, 3, 5], [2, 4, 6]]", tg.tensor([1, 2]) @ tg.tensor([[1, 3, 5], [2, 4, 6]]), [5, 11, 17])
    try:
        tg.ones((2, 3)) @ tg.ones((4, 5))
    except ValueError as error:
        print(f"{'(2, 3) @ (4, 5) does not fit':<45} {error}")
        check("  the error names both shapes", "(2, 3)" in str(error) and "(4, 5)" in str(error), True)
    else:
        raise SystemExit("MISMATCH: (2, 3) @ (4, 5) should be an error")

    print("-- indexing")
    x = tg.tensor([[51, 55], [14, 19], [0, 4]])
    check("x[0]", x[0], [51, 55])
    check("x[0, 1]", x[0, 1], 55)
    check("x[:, 1]", x[:, 1], [55, 19, 4])
    for i, row in enumerate(x):
        check(f"row {i}", row, x[i])
    flat = x.flatten()
    check("x.flatten()", flat, [51, 55, 14, 19, 0, 4])
    check("flat[[0, 2, 4]]", flat[np.array([0, 2, 4])], [51, 14, 0])
    check("flat > 15", flat > 15, [True, True, False, True, False, False])
    check("flat[flat > 15]", flat[flat > 15], [51, 55, 19])

    print("-- dtypes: Python floats become float32, and numbers never change a dtype")
    check("[1, 2]", str(tg.tensor([1, 2]).dtype), "int64")
    check("[1.0, 2.0]", str(tg.tensor([1.0, 2.0]).dtype), "float32")
    check("[1.0, 2.0] * 0.5", str((tg.tensor([1.0, 2.0]) * 0.5).dtype), "float32")
    check("[1, 2] as float64", str(tg.tensor([1, 2]).astype("float64").dtype), "float64")
    check("[1.7, -1.7] as int64", tg.tensor([1.7, -1.7]).astype("int64"), [1, -1])

    print("-- and gradients flow back: broadcasting forward is summing backward")
    w = tg.tensor([10.0, 20.0], requires_grad=True)
    (a * w).sum().backward()
    check("gradient of sum(a * w) by w", w.grad, [4, 6])


def draw(plt, path):
    x = np.arange(0, 6, 0.1)
    figure, panel = plt.subplots(figsize=(6, 4), layout="constrained")
    panel.plot(x, tg.sin(x), label="sin")
    panel.plot(x, tg.cos(x), "--", label="cos")
    panel.set(title="sin & cos", xlabel="x", ylabel="y")
    panel.legend()
    save(figure, path)
    plt.close(figure)


def main(arguments=None):
    options = parser(__doc__).parse_args(arguments)
    lesson()
    if plt := pyplot():
        draw(plt, options.out / "sin_cos.png")


if __name__ == "__main__":
    main()
