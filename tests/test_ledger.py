"""`tg.autograd.memory()`: every array that a graph keeps, once, with who keeps it."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np

import tinygrad_nn as tg
from tinygrad_nn.autograd import KeptMemory, memory, record_lines

FLOAT = 8  # bytes


def here(offset: int = 0) -> str:
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno + offset}"


def of_graph() -> dict[tuple[str, str], KeptMemory]:
    return {(e.operation, e.line): e for e in memory().entries if e.keeper == "graph"}


def constant(*shape: int) -> Any:
    """An array that nothing holds but the graph, and a tensor around it that wants no gradient."""
    return tg.tensor(np.ones(shape))


def leaf(*shape: int) -> Any:
    return tg.tensor(np.ones(shape), requires_grad=True)


def by_keeper() -> Counter[str]:
    found: Counter[str] = Counter()
    for e in memory().entries:
        found[e.keeper] += e.nbytes
    assert found.total() == memory().total
    return found


def test_matmul_and_relu_to_the_byte() -> None:
    before = by_keeper()
    w = leaf(6, 4)
    with record_lines():
        loss = tg.nn.functional.relu(constant(5, 6) @ w).sum()
        line = here(-1)
    kept = of_graph()
    product, relu = kept["matmul", line], kept["relu", line]
    assert product.nbytes == 5 * 6 * FLOAT
    assert product.arrays == [("input 0", (5, 6), np.dtype(np.float64))]
    assert relu.nbytes == 5 * 4 * FLOAT
    grown = by_keeper() - before
    assert grown["graph"] == (5 * 6 + 5 * 4) * FLOAT
    assert grown["guard"] <= 5 * 6 * FLOAT
    del grown["graph"], grown["guard"]
    assert grown == {"leaf": 6 * 4 * FLOAT}
    loss.backward()
    assert by_keeper() - before == {"leaf": 6 * 4 * FLOAT, "gradient": 6 * 4 * FLOAT}


def test_nothing_of_a_freed_graph_is_kept_by_its_result() -> None:
    before = memory().graph
    x = leaf(3, 4)
    results = [
        tg.nn.functional.cross_entropy(x, np.array([0, 1, 2])),
        tg.softmax(x, axis=1)[0, 0],
        tg.max(x),
        tg.prod(x),
        tg.linalg.norm(x),
        tg.where(np.ones((3, 4), bool), x, 0.0)[np.array([0, 1])].sum(),
    ]
    assert memory().graph > before
    for y in results:
        y.backward()
    assert memory().graph == before


def test_memory_that_several_keep_counts_once() -> None:
    before = memory()
    x = leaf(10)
    y = tg.exp(x)
    z = tg.sin(y) * y + y[2:5].sum() * tg.cos(y)
    # y (kept by exp, sin, multiply, cos), sin y, cos y; sums are single numbers
    assert memory().graph - before.graph == 3 * 10 * FLOAT
    (largest,) = [e for e in memory().entries if e.operation == "exp"]
    assert largest.arrays == [("result", (10,), np.dtype(np.float64))]
    assert z.shape == (10,)


def test_a_view_counts_with_the_whole_array() -> None:
    before = memory().graph
    y = tg.sin(tg.tensor(np.ones(1000))[:3] * leaf(3))
    assert memory().graph - before == (1000 + 3) * FLOAT
    assert y.shape == (3,)


def test_kinds_of_keepers() -> None:
    before = by_keeper()
    w, batch = leaf(7), constant(11)
    y = w * 2.0
    y.retain_grad()
    y.sum().backward()

    assert by_keeper() - before == {
        "leaf": 7 * FLOAT,
        "gradient": 2 * 7 * FLOAT,  # of the leaf, and the retained one
        "tensor": (11 + 7) * FLOAT,
    }
    assert batch.shape == (11,)


def test_functions_and_checkpoints() -> None:
    class Scaled(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(tg.exp(x))
            ctx.table = np.ones(100)
            return x * 2.0

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2.0

    before = memory().graph
    x = leaf(9)
    y = Scaled.apply(x)
    assert memory().graph - before == (9 + 100) * FLOAT
    (entry,) = [e for e in memory().entries if e.operation == "Scaled"]
    assert entry.nbytes == (9 + 100) * FLOAT
    y.sum().backward()
    assert memory().graph == before
    z = tg.autograd.checkpoint(lambda a: tg.exp(tg.sin(a)), x)
    assert memory().graph == before, "only the leaf is kept, for what runs again"
    assert z.shape == (9,)


def test_inside_vmap() -> None:
    found: list[int] = []

    def look(x: Any) -> Any:
        found.append(memory().total)
        return x * 2.0

    tg.func.vmap(look)(tg.tensor(np.ones((50, 3))))
    assert found[0] >= 150 * FLOAT


def test_no_other_object_is_asked_what_it_is() -> None:
    class Proxy:
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            raise RuntimeError("asked")

    proxies = [Proxy()]
    assert memory().total >= 0
    assert len(proxies) == 1


def test_the_table() -> None:
    w = leaf(600, 40)
    with record_lines():
        loss = tg.exp(constant(500, 600) @ w).sum()
        line = here(-1)
    rows = str(memory()).splitlines()
    assert rows[0].split() == ["bytes", "arrays", "kept", "by", "what"]
    assert rows[1].split() == ["2,400,000", "1", "matmul", "at", line, "input", "0", "float64(500,", "600)"]
    assert "tensors that require gradients" in str(memory())
    assert rows[-1].endswith(" for backward")
    assert repr(memory()) == str(memory())
    assert loss.shape == ()


def test_lines_only_where_they_were_recorded() -> None:
    y = tg.exp(leaf(123))
    assert of_graph()["exp", ""].nbytes == 123 * FLOAT
    assert "  exp  " in str(memory())
    assert y.shape == (123,)


def test_operations_whose_result_numpy_code_holds_are_counted() -> None:
    x = tg.tensor(np.ones((500, 64)), requires_grad=True)
    y = tg.exp(x)
    assert y.data.shape == (500, 64)
    assert [e.operation for e in tg.autograd.memory().entries if e.keeper == "graph" and e.nbytes == 256_000] == ["exp"]


def test_what_an_operation_made_for_itself_is_not_copied() -> None:
    """Only what NumPy code may write into is: here the targets, and not the tables of the cross entropy."""
    before = sum(e.nbytes for e in tg.autograd.memory().entries if e.keeper == "guard")
    loss = tg.nn.functional.cross_entropy(tg.zeros((50, 10), requires_grad=True), np.zeros(50, np.int64))
    after = sum(e.nbytes for e in tg.autograd.memory().entries if e.keeper == "guard")
    assert (after - before, loss.ndim) == (50 * 8, 0)
