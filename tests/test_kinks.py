"""Gradients exactly at a kink: found, refused, chosen; and each declared convention held against one-sided slopes."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.autograd import Kink, KinkError, kink_slopes, kinks
from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.graph import Node
from tinygrad_nn.registry import OPS
from tinygrad_nn.tensor import Tensor

from .contract import Trial
from .test_ops_contract import TIES

KINKED = sorted(name for name, op in OPS.items() if op.kink)
CHOOSABLE = sorted(name for name, op in OPS.items() if op.slopes)

# more places where an operation is at a kink, beside those of TIES: arguments and parameters
INFINITE_SLOPES: dict[str, tuple[Any, ...]] = {
    "sqrt": ([0.0, 4.0],),
    "cbrt": ([0.0, 8.0],),
    "arcsin": ([1.0, 0.5],),
    "arccos": ([-1.0, 0.5],),
    "arccosh": ([1.0, 2.0],),
}


def leaf(values: Any, dtype: str = "float64") -> Tensor:
    return tg.tensor(values, dtype=dtype, requires_grad=True)


# -- declarations ------------------------------------------------------------------------------------------------------


def test_every_tie_and_every_infinite_slope_can_be_seen() -> None:
    for op in OPS.values():
        assert bool(op.kink) == bool(op.ties or op.singular), op.name
        assert op.kink or not op.slopes


@pytest.mark.parametrize("name", KINKED)
def test_kink_is_found_at_the_tie_and_not_beside_it(name: str) -> None:
    op = OPS[name]
    assert op.kink is not None
    rows = [(t[0], t[1]) for t in TIES.get(name, [])] or [(INFINITE_SLOPES[name], {})]
    rng = np.random.default_rng(0)
    found = 0
    for arguments, params in rows:
        args = [np.array(a, np.float64) for a in arguments]
        y = op.forward(*args, **params)
        mask = np.broadcast_to(op.kink(y, *args, **params), np.shape(y))
        assert mask.dtype == bool
        found += int(mask.sum())
        beside = [a * (1 - 1e-3 * rng.uniform(0.5, 1, a.shape)) + 1e-3 * rng.uniform(0.5, 1, a.shape) for a in args]
        with np.errstate(invalid="ignore"):
            y = op.forward(*beside, **params)
            assert not np.any(op.kink(y, *beside, **params)), f"{name}: no kink at {beside}"
    assert found


# The slope at these points is no subgradient: the value jumps, or has no limit. Zero is a convention only.
NO_LIMIT = {"power", "arctan2", "binary_cross_entropy", "sign"}


@pytest.mark.parametrize("name", sorted(set(TIES) - NO_LIMIT))
def test_one_sided_slopes_bracket_the_convention(name: str) -> None:
    """In every direction, the derivative lies between the slopes on both sides (a jump's is infinite)."""
    op = OPS[name]
    rng = np.random.default_rng(0)
    h = 1e-7
    for arguments, params, _, _ in TIES[name]:
        args = tuple(np.array(a, np.float64) for a in arguments)
        trial = Trial(op, args, params)
        for _ in range(20):
            moves = [rng.uniform(-1, 1, a.shape) for a in args]
            _, slope = tg.func.jvp(lambda *xs, trial=trial: trial(*xs), args, tuple(moves))
            value = np.asarray(op.forward(*args, **params))
            ahead = np.asarray(op.forward(*(a + h * m for a, m in zip(args, moves, strict=True)), **params))
            behind = np.asarray(op.forward(*(a - h * m for a, m in zip(args, moves, strict=True)), **params))
            sides = np.stack([(ahead - value) / h, (value - behind) / h])
            assert np.all(slope.data >= sides.min(0) - 1e-5), f"{trial}: {slope} of {sides}"
            assert np.all(slope.data <= sides.max(0) + 1e-5), f"{trial}: {slope} of {sides}"


@pytest.mark.parametrize(
    ("name", "twin", "points"),
    [
        ("relu", "relu", ([0.0],)),
        ("absolute", "abs", ([0.0],)),
        ("maximum", "maximum", ([1.0], [1.0])),
        ("minimum", "minimum", ([1.0], [1.0])),
        ("clip", "clamp", ([0.0, 1.0], [0.0, 0.0], [1.0, 1.0])),
        ("arctan2", "arctan2", ([0.0], [0.0])),
        ("copysign", "copysign", ([0.0], [-1.0])),
        ("power", "pow", ([0.0], [0.0])),
        ("remainder", "remainder", ([6.0], [3.0])),
        ("fmod", "fmod", ([6.0], [3.0])),
        ("sign", "sign", ([0.0],)),
        ("floor", "floor", ([1.0],)),
        ("rint", "round", ([0.5],)),
        ("hardtanh", "nn.functional.hardtanh", ([-1.0, 1.0],)),
        ("leaky_relu", "nn.functional.leaky_relu", ([0.0],)),
        ("max", "max", ([2.0, 2.0, 1.0],)),
        ("vector_norm", "linalg.vector_norm", ([0.0, 0.0],)),
        ("std", "std", ([1.0, 1.0],)),
    ],
)
def test_conventions_are_those_of_torch(name: str, twin: str, points: Any) -> None:
    torch = pytest.importorskip("torch")
    public = {"hardtanh": tg.functional.hardtanh, "leaky_relu": tg.functional.leaky_relu, "max": tg.max, "std": tg.std}
    public["vector_norm"] = tg.linalg.vector_norm
    ours = [leaf(p) for p in points]
    public.get(name, OPS[name].call)(*ours).sum().backward()
    theirs = [torch.tensor(p, dtype=torch.float64, requires_grad=True) for p in points]
    attrgetter(twin)(torch)(*theirs).sum().backward()
    for x, t in zip(ours, theirs, strict=True):
        assert x.grad is not None
        np.testing.assert_array_equal(x.grad.data, 0.0 if t.grad is None else t.grad.numpy())


# -- the report --------------------------------------------------------------------------------------------------------


def test_report_counts_elements_by_operation_and_line() -> None:
    x = leaf([0.0, -1.0, 0.0, 2.0])
    with kinks("report") as report:
        for _ in range(3):
            y = tg.relu(x)  # this line
            y.sum().backward()
        tg.abs(x[:1]).sum().backward()
    first, second = report
    assert isinstance(first, Kink)
    assert (first.operation, first.count, first.elements) == ("relu", 6, ((0,), (2,)))
    assert (second.operation, second.count, second.elements) == ("absolute", 1, ((0,),))
    assert first.convention == "slope 0 at 0"
    assert first.line.file == __file__
    assert "this line" in Path(__file__).read_text(encoding="utf-8").splitlines()[first.line.number - 1]
    assert len(report) == 2
    head, row, _ = str(report).splitlines()
    assert head.split() == ["operation", "line", "count", "elements", "convention"]
    assert row.startswith("relu") and str(first.line) in row and "[0], [2]" in row


def test_no_kink_no_entry() -> None:
    with kinks() as report:
        tg.relu(leaf([1.0, -1.0])).sum().backward()
        tg.relu(leaf([0.0]))  # no gradient was taken
        (tg.relu(leaf([0.0, 1.0])) * np.array([0.0, 1.0])).sum().backward()  # none at the kink
        with tg.no_grad():
            tg.relu(leaf(0.0))
    assert not report
    assert str(report) == "no gradient was taken at a kink"
    tg.relu(leaf(0.0)).backward()  # outside
    assert not report


def test_each_walk_counts_an_operation_once() -> None:
    a, b = leaf([1.0, 2.0]), leaf([1.0, 3.0])
    with kinks() as report:
        y = tg.maximum(a, b).sum()  # two arguments, one tie
        y.backward(retain_graph=True)
        assert [kink.count for kink in report] == [1]
        y.backward()
    assert [kink.count for kink in report] == [2]


def test_forward_mode_and_second_order_are_seen() -> None:
    with kinks() as report:
        tg.func.jvp(tg.relu, (np.array([0.0, 1.0]),), (np.array([1.0, 1.0]),))
    assert [(kink.operation, kink.count) for kink in report] == [("relu", 1)]
    with kinks() as report:
        tg.func.grad(tg.func.grad(lambda x: tg.abs(x) * x))(0.0)
    assert "absolute" in [kink.operation for kink in report]


def test_an_infinite_slope_is_a_kink() -> None:
    with kinks() as report, np.errstate(divide="ignore"):
        tg.sqrt(leaf([0.0, 1.0]) ** 2).sum().backward()
    (kink,) = report
    assert (kink.operation, kink.elements) == ("sqrt", ((0,),))
    assert "infinite" in kink.convention


def test_what_a_selection_leaves_out_is_not_counted() -> None:
    x = leaf([0.0, 1.0])
    with kinks() as report:
        tg.where(x > 0, tg.sqrt(x), 0.0).sum().backward()
    assert not report


def test_inside_vmap() -> None:
    with kinks() as report:
        tg.func.vmap(tg.func.grad(tg.relu))(tg.tensor([0.0, 1.0, 0.0]))
    assert [(kink.operation, kink.count) for kink in report] == [("relu", 2)]


def test_error_names_operation_line_elements_and_convention() -> None:
    x = leaf(np.zeros((2, 3)))
    with kinks("error"):
        y = tg.relu(x).sum()
        with pytest.raises(KinkError, match=r"relu at .*test_kinks\.py:\d+ is taken exactly at a kink") as caught:
            y.backward()
    text = str(caught.value)
    assert "for 6 of 6 elements, at [0, 0], [0, 1], [0, 2], ..." in text
    assert "slope 0 at 0" in text and "kink_slopes" in text
    with kinks("error"):
        y = tg.max(leaf([1.0, 1.0]))
        with pytest.raises(KinkError, match="split evenly among equals") as caught:
            y.backward()
    assert "kink_slopes" not in str(caught.value)


def test_wrong_action() -> None:
    with pytest.raises(ArgumentError, match="'report' or 'error', not 'warn'"):
        kinks("warn")  # type: ignore[arg-type]


def test_as_decorator() -> None:
    report = kinks("report")

    @report
    def step() -> None:
        tg.relu(leaf(0.0)).backward()

    step()
    step()
    assert [kink.count for kink in report] == [2]


@pytest.mark.parametrize("name", sorted(TIES))
def test_every_tie_is_reported(name: str) -> None:
    for arguments, params, _, _ in TIES[name]:
        args = tuple(np.array(a, np.float64) for a in arguments)
        trial = Trial(OPS[name], args, params)
        with kinks() as report, np.errstate(all="ignore"):
            y = trial(*(leaf(a) for a in args))
            y.backward(np.ones(y.shape))
        y = OPS[name].forward(*args, **params)
        count = int(np.broadcast_to(OPS[name].kink(y, *args, **params), np.shape(y)).sum())  # type: ignore[misc]
        assert sum(kink.count for kink in report if kink.operation == name) == count


def test_an_operation_of_ones_own() -> None:
    @tg.autograd.operation(
        elementwise=lambda t, _y, x: t * (x > 0),
        ties="slope 0 at 0",
        kink=lambda _y, x: x == 0,
        slopes=(0.0, 1.0),
    )
    def hinge(x: Any) -> Any:
        """x above 0, else 0"""
        return np.maximum(x, 0)

    try:
        x = leaf([0.0, 1.0])
        with kink_slopes(hinge=0.5), kinks() as report:
            hinge(x).sum().backward()
        assert x.grad is not None
        np.testing.assert_array_equal(x.grad.data, [0.5, 1.0])
        assert [(kink.operation, kink.count) for kink in report] == [("hinge", 1)]
    finally:
        del OPS["hinge"]


def test_nothing_more_is_kept_when_nobody_looks() -> None:
    x = leaf([0.0, 1.0])
    node = tg.relu(x)._node
    assert isinstance(node, Node)
    assert node.saved is not None and node.saved[1] is None
    assert node.watch is None


# -- chosen slopes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slope", [0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slope_of_relu(slope: float, dtype: str) -> None:
    x = leaf([0.0, -1.0, 2.0], dtype)
    with kink_slopes(relu=slope):
        y = tg.relu(x)
    y.backward(np.array([3.0, 3.0, 3.0]))  # outside: what counts is where the operation ran
    assert x.grad is not None
    assert x.grad.dtype == dtype
    np.testing.assert_array_equal(x.grad.data, [3 * slope, 0.0, 3.0])
    tg.relu(leaf(0.0)).backward()


def test_layers_use_it_too() -> None:
    x = leaf([[0.0, -1.0]])
    with kink_slopes(relu=1.0):
        tg.nn.ReLU()(x).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [[1.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "slope", "points", "wanted"),
    [
        ("absolute", -1.0, ([0.0, 2.0],), ([-1.0, 1.0],)),
        ("maximum", 1.0, ([1.0, 1.0, 3.0], [1.0, 2.0, 2.0]), ([1.0, 0.0, 1.0], [0.0, 1.0, 0.0])),
        ("minimum", 0.25, ([1.0, 1.0], [1.0, 2.0]), ([0.25, 1.0], [0.75, 0.0])),
        ("clip", 0.0, ([-1.0, 0.0, 1.0, 2.0], [-1.0] * 4, [1.0] * 4), ([0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1])),
    ],
)
def test_chosen_slope(name: str, slope: float, points: Any, wanted: Any) -> None:
    fn = OPS[name].call
    xs = [leaf(p) for p in points]
    with kink_slopes(**{name: slope}):
        y = fn(*xs)
        tangents = tg.func.jvp(fn, tuple(x.detach() for x in xs), tuple(tg.ones_like(x) for x in xs))[1]
    found = tg.autograd.grad(y.sum(), xs, create_graph=True)
    for got, right in zip(found, wanted, strict=True):
        assert got is not None
        np.testing.assert_array_equal(got.data, right)
    np.testing.assert_array_equal(tangents.data, np.sum(np.array(wanted), 0))


def test_every_operation_that_declares_a_range_takes_its_ends() -> None:
    assert CHOOSABLE
    for name in CHOOSABLE:
        low, high = OPS[name].slopes or (0.0, 0.0)
        for slope in (low, high):
            arguments = TIES[name][0][0]
            xs = [leaf(a) for a in arguments]
            if len(xs) < len(OPS[name].vjps):
                xs.append(leaf(1.0))
            with kink_slopes(**{name: slope}), kinks() as report:
                OPS[name].call(*xs).sum().backward()
            assert [kink.convention for kink in report] == [f"slope {slope:g}, chosen by kink_slopes"]


def test_second_derivatives_follow_the_choice() -> None:
    with kink_slopes(relu=1.0):
        second = tg.func.grad(tg.func.grad(lambda x: tg.relu(x) ** 2))(0.0)
    assert second.item() == 2.0  # as if x were above 0


def test_inner_choice_wins_and_threads_do_not_share_it() -> None:
    seen = []

    def other() -> None:
        x = leaf(0.0)
        tg.relu(x).backward()
        assert x.grad is not None
        seen.append(x.grad.item())

    x = leaf(0.0)
    with kink_slopes(relu=1.0):
        with kink_slopes(relu=0.5):
            tg.relu(x).backward()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert x.grad is not None
    assert (x.grad.item(), seen) == (0.5, [0.0])


@pytest.mark.parametrize(
    ("slopes", "message"),
    [
        ({"rellu": 0.5}, "rellu is no operation; those that have are absolute, clip, hardtanh, maximum, minimum, relu"),
        ({"exp": 0.5}, "exp has no slope to choose"),
        ({"relu": 1.5}, "relu=1.5 is not a number from 0 to 1"),
        ({"relu": "half"}, "relu='half' is not a number from 0 to 1"),
        ({"absolute": math.nan}, "absolute=nan is not a number from -1 to 1"),
    ],
)
def test_wrong_choice(slopes: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        kink_slopes(**slopes)


# -- the page ----------------------------------------------------------------------------------------------------------


def test_page_is_current() -> None:
    page = Path(__file__).parent.parent / "docs" / "kinks.md"
    made = subprocess.run(
        [sys.executable, "-m", "tinygrad_nn.optable", "kinks"], capture_output=True, check=True, encoding="utf-8"
    ).stdout
    assert page.read_text(encoding="utf-8") == made, "run: python -m tinygrad_nn.optable kinks > docs/kinks.md"
