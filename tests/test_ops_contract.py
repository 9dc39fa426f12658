"""Every operation of the registry, every declared case and drawn inputs, held to the contract."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tinygrad_nn  # noqa: F401  # fills the registry
from tinygrad_nn.domains import Case, Integers, Reals
from tinygrad_nn.registry import OPS, TWINS, Op
from tinygrad_nn.tensor import Tensor

from . import contract, strategies, window_values
from .contract import Trial

NAMES = sorted(OPS)
SMOOTH = [name for name in NAMES if OPS[name].vjps]
Array = np.ndarray[Any, Any]

# What an operation without a NumPy twin of the same call must compute, written in NumPy alone and in the plainest way.


def sum_to_value(x: Array, *, shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape)
    for place in np.ndindex(x.shape):
        kept = place[x.ndim - len(shape) :]
        total[tuple(0 if n == 1 else i for i, n in zip(kept, shape, strict=True))] += x[place]
    return total


def scatter_value(x: Array, values: Any, index: Any) -> Array:
    out = x.copy()
    np.add.at(out, index, values)
    return out


def written(x: Array, value: Array, *, index: Any) -> Array:
    mask = np.zeros(x.shape, bool)
    mask[index] = True
    full = np.zeros(x.shape)
    full[index] = value
    return np.where(mask, full, x)


def softmax_value(x: Array, axis: Any) -> Array:
    return np.exp(x) / np.sum(np.exp(x), axis, keepdims=True)


def class_loss(losses: Array, target: Array, weight: Any, ignore_index: int, reduction: str) -> Any:
    """PyTorch's reductions of `losses`, the loss of each class (axis 1) of each sample, in a loop."""
    axis = min(losses.ndim - 1, 1)
    chosen, shares = np.zeros(target.shape), np.zeros(target.shape)
    rows = np.moveaxis(losses, axis, -1)
    for place in np.ndindex(target.shape):
        label = int(target[place])
        if label != ignore_index:
            shares[place] = 1.0 if weight is None else weight[label]
            chosen[place] = shares[place] * rows[place][label]
    if reduction == "none":
        return chosen
    return np.sum(chosen) / (np.sum(shares) if reduction == "mean" else 1.0)


def rows_of(weight: Array, indices: Array, padding_idx: int | None = None) -> Array:
    rows = np.array([np.zeros(weight.shape[1]) if i == padding_idx else weight[i] for i in indices.ravel()])
    return rows.reshape(*indices.shape, weight.shape[1])


def summed_rows(indices: Array, g: Array, *, count: int, padding_idx: int | None) -> Array:
    total = np.zeros((count, g.shape[-1]))
    for place in np.ndindex(indices.shape):
        if indices[place] != padding_idx:
            total[indices[place]] += g[place]
    return total


VALUES: dict[str, Callable[..., Any]] = {
    "reshape": lambda x, *, shape: x.reshape(shape),  # np.reshape has named this argument differently
    "where": lambda a, b, *, condition: np.select([condition], [a], b),
    "concat": lambda *xs, axis, offsets: np.concatenate(xs, axis),
    "stack": lambda *xs, axis: np.stack(xs, axis),
    "flip": lambda x, *, axis: np.flip(x, axis),
    "roll": lambda x, *, shift, axis: np.roll(x, shift, axis),
    "pad": lambda x, *, widths, value: np.pad(x, widths, constant_values=value),
    "astype": lambda x, *, dtype: x.astype(dtype),
    "sum_to": sum_to_value,
    "getitem": lambda x, *, index: x[index],
    "index_update": written,
    "index_add": lambda x, v, *, index: scatter_value(x, v, index),
    "scatter_add": lambda x, *, index, shape: scatter_value(np.zeros(shape), x, index),
    "var": lambda x, *, axis, keepdims, correction: np.var(x, axis, ddof=correction, keepdims=keepdims),
    "std": lambda x, *, axis, keepdims, correction: np.std(x, axis, ddof=correction, keepdims=keepdims),
    "einsum": lambda *xs, inputs, output: np.einsum(f"{','.join(inputs)}->{output}", *xs),
    "linear": lambda x, w, b=0.0: np.einsum("...i,oi->...o", x, w) + b,
    "matvec": lambda a, v: np.einsum("...i,i->...", a, v),
    "softmax": lambda x, *, axis: softmax_value(x, axis),
    "log_softmax": lambda x, *, axis: np.log(softmax_value(x, axis)),
    "logsumexp": lambda x, *, axis, keepdims: np.log(np.sum(np.exp(x), axis, keepdims=keepdims)),
    "nll_loss": lambda x, target, **how: class_loss(-x, target, **how),
    "cross_entropy": lambda x, target, **how: class_loss(-np.log(softmax_value(x, min(x.ndim - 1, 1))), target, **how),
    "squared_error": lambda a, b, *, share: share * np.sum((a - b) ** 2),
    "binary_cross_entropy": lambda p, t: -t * np.log(p) - (1 - t) * np.log(1 - p),
    "binary_cross_entropy_with_logits": lambda x, t: t * np.log(1 + np.exp(-x)) + (1 - t) * np.log(1 + np.exp(x)),
    "embedding": lambda indices, weight, *, padding_idx: rows_of(weight, indices),
    "embedding_moving": lambda indices, weight, *, padding_idx: rows_of(weight, indices, padding_idx),
    "embedding_weight": summed_rows,
    **window_values.VALUES,
}


def independent_value(op: Op, args: tuple[Array, ...], params: dict[str, Any]) -> Any:
    if op.name in VALUES:
        return VALUES[op.name](*args, **params)
    if op.reference is not None:
        return op.reference(*args, **params)
    assert op.twin is not None, f"{op.name}: declare its NumPy twin, or a reference"
    return op.twin(*args, **params)


@pytest.mark.parametrize("name", NAMES)
def test_declared_cases(name: str) -> None:
    for trial in contract.trials(OPS[name]):
        for check in contract.CHECKS:
            check(trial)


@pytest.mark.parametrize("name", NAMES)
def test_value(name: str) -> None:
    op = OPS[name]
    for trial in contract.trials(op, repeats=2):
        wanted = independent_value(op, trial.args, trial.params)
        plain, tensors = trial(*trial.args), trial(*map(Tensor, trial.args))
        assert isinstance(plain, np.ndarray | np.generic), f"{trial}: arrays in, {type(plain)} out"
        assert isinstance(tensors, Tensor)
        assert tensors.dtype == plain.dtype == np.asarray(wanted).dtype
        contract.assert_close(plain, wanted, f"{trial}: value", rtol=1e-13, atol=1e-14)
        contract.assert_close(tensors.data, plain, f"{trial}: value of tensors", rtol=0.0, atol=0.0)


@pytest.mark.parametrize("name", SMOOTH)
def test_result_is_recorded_only_when_wanted(name: str) -> None:
    for trial in contract.trials(OPS[name]):
        assert not trial(*map(Tensor, trial.args)).requires_grad
        assert trial(*contract.leaves(trial, trial.args)).requires_grad == bool(trial.moving)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(SMOOTH)))
def test_without_derivative_nothing_is_recorded(name: str) -> None:
    for trial in contract.trials(OPS[name]):
        tracked = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in trial.args]
        result = trial(*tracked)
        assert isinstance(result, Tensor)
        assert not result.requires_grad


def test_every_smooth_operation_has_trials_that_move() -> None:
    still = [
        name for name in SMOOTH if not any(t.moving and t.args[t.moving[0]].size for t in contract.trials(OPS[name]))
    ]
    assert not still, f"no declared case of {still} has anything to differentiate"


@pytest.mark.parametrize("name", [n for n in NAMES if OPS[n].kind == "elementwise"])
@given(data=st.data())
def test_drawn_inputs(name: str, data: st.DataObject) -> None:
    op = OPS[name]
    shapes = data.draw(strategies.shapes(contract.arity(op)))
    args = data.draw(strategies.arrays(op.domain, shapes))
    trial = Trial(op, args, seed=data.draw(st.integers(0, 1000)))
    for check in (contract.check_finite, contract.check_transposes, contract.check_jvp, contract.check_second_order):
        check(trial)


@pytest.mark.parametrize("name", SMOOTH)
@given(data=st.data())
def test_drawn_values_in_declared_cases(name: str, data: st.DataObject) -> None:
    op = OPS[name]
    case: Case = data.draw(st.sampled_from(contract.cases(op)))
    trial = Trial(op, data.draw(strategies.arrays(op.domain, case.shapes)), case.params)
    for check in (contract.check_finite, contract.check_transposes, contract.check_jvp, contract.check_analytic):
        check(trial)


# -- declarations themselves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_declaration(name: str) -> None:
    op = OPS[name]
    assert op.name == name
    assert op.formula, f"{name}: no formula for readers"
    assert op.kind in ("elementwise", "linear", "general", "constant")
    if op.kind in ("linear", "general"):
        assert op.cases, f"{name}: cases are required"
    if op.kind == "elementwise":
        assert len(op.domain) == len(op.vjps)
    for domain in op.domain:
        if isinstance(domain, Reals):
            assert strategies.intervals(domain), f"{name}: empty domain {domain}"
        if isinstance(domain, Integers):
            assert domain.low < domain.high


def test_twins_lead_back() -> None:
    for op in OPS.values():
        if op.twin is not None:
            assert TWINS[op.twin].__name__ == op.name


@pytest.mark.parametrize("domain", [Reals(), Reals(-2, 2, avoid=(0.0, 1.0), margin=0.3), Reals(0.2, 4, distinct=True)])
@given(data=st.data())
def test_strategies_stay_inside_the_domain(domain: Reals, data: st.DataObject) -> None:
    (drawn,) = data.draw(strategies.arrays((domain,), ((2, 3),)))
    (sampled,) = strategies.sample((domain,), ((2, 3),), np.random.default_rng(data.draw(st.integers(0, 99))))
    for a in (drawn, sampled):
        assert np.all((a >= domain.low) & (a <= domain.high))
        for point in domain.avoid:
            assert np.all(np.abs(a - point) >= domain.margin * 0.999)
        if domain.distinct:
            assert np.min(np.diff(np.sort(a.ravel()))) >= domain.margin


def test_samples_reach_both_ends_of_every_domain() -> None:
    for op in OPS.values():
        for domain in op.domain:
            if isinstance(domain, Reals) and not domain.distinct:
                (drawn,) = strategies.sample((domain,), ((2000,),), np.random.default_rng(0))
                width = domain.high - domain.low
                assert drawn.min() < domain.low + 0.05 * width + domain.margin
                assert drawn.max() > domain.high - 0.05 * width - domain.margin


# -- kinks and ties: hand-computed -------------------------------------------------------------------------------------

INF = math.inf
# operation: (arguments, parameters, cotangent, gradient of each argument), at its kinks and ties
TIES: dict[str, list[tuple[tuple[Any, ...], dict[str, Any], Any, tuple[Any, ...]]]] = {
    "power": [
        (([0.0], [0.0]), {}, [3.0], ([0.0], [0.0])),
        (([0.0], [1.0]), {}, [3.0], ([3.0], [0.0])),
        (([0.0], [2.0]), {}, [3.0], ([0.0], [0.0])),
    ],
    "absolute": [(([0.0, -0.0, -2.0, 2.0],), {}, [5.0, 5.0, 5.0, 5.0], ([0.0, 0.0, -5.0, 5.0],))],
    "hypot": [(([0.0, 3.0], [0.0, 4.0]), {}, [1.0, 10.0], ([0.0, 6.0], [0.0, 8.0]))],
    "arctan2": [(([0.0, 3.0], [0.0, 4.0]), {}, [1.0, 100.0], ([0.0, 16.0], [0.0, -12.0]))],
    "sign": [(([0.0, 2.0],), {}, [1.0, 1.0], ([0.0, 0.0],))],
    "floor": [(([0.0, 1.0, 1.5],), {}, [1.0, 1.0, 1.0], ([0.0, 0.0, 0.0],))],
    "ceil": [(([0.0, 1.0, 1.5],), {}, [1.0, 1.0, 1.0], ([0.0, 0.0, 0.0],))],
    "trunc": [(([0.0, -1.0, 1.5],), {}, [1.0, 1.0, 1.0], ([0.0, 0.0, 0.0],))],
    "rint": [(([0.5, 1.5, 2.0],), {}, [1.0, 1.0, 1.0], ([0.0, 0.0, 0.0],))],
    "floor_divide": [(([6.0, 7.0], [3.0, 3.0]), {}, [1.0, 1.0], ([0.0, 0.0], [0.0, 0.0]))],
    "remainder": [(([6.0, 7.0, -7.0], [3.0, 3.0, 3.0]), {}, [1.0, 1.0, 1.0], ([1.0, 1.0, 1.0], [-2.0, -2.0, 3.0]))],
    "fmod": [(([6.0, 7.0, -7.0], [3.0, 3.0, 3.0]), {}, [1.0, 1.0, 1.0], ([1.0, 1.0, 1.0], [-2.0, -2.0, 2.0]))],
    "maximum": [(([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), {}, [4.0, 4.0, 4.0], ([2.0, 0.0, 4.0], [2.0, 4.0, 0.0]))],
    "minimum": [(([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), {}, [4.0, 4.0, 4.0], ([2.0, 4.0, 0.0], [2.0, 0.0, 4.0]))],
    "clip": [
        (
            ([-1.0, 1.0, -2.0, 2.0, 0.5], [-1.0] * 5, [1.0] * 5),
            {},
            [3.0] * 5,
            ([3.0, 3.0, 0.0, 0.0, 3.0], [0.0, 0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0, 0.0]),
        ),
        (([0.0], [1.0], [-1.0]), {}, [3.0], ([0.0], [0.0], [3.0])),  # low above high: the result is high
    ],
    "copysign": [(([0.0, 2.0, 2.0], [1.0, -1.0, 0.0]), {}, [7.0] * 3, ([0.0, -7.0, 7.0], [0.0] * 3))],
    "max": [
        (([2.0, 2.0, 1.0],), {"axis": None, "keepdims": False}, 8.0, ([4.0, 4.0, 0.0],)),
        (
            ([[3.0, 3.0, 3.0], [0.0, 5.0, 5.0]],),
            {"axis": (1,), "keepdims": True},
            [[9.0], [8.0]],
            ([[3.0, 3.0, 3.0], [0.0, 4.0, 4.0]],),
        ),
    ],
    "min": [(([2.0, 1.0, 1.0, 1.0],), {"axis": (0,), "keepdims": False}, 9.0, ([0.0, 3.0, 3.0, 3.0],))],
    "max_pool2d": [
        (
            ([[[1.0, 1.0, 0.0, 2.0], [1.0, 0.0, 2.0, 2.0]]],),
            {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "out": (1, 2)},
            [[[5.0, 7.0]]],
            ([[[5.0, 0.0, 0.0, 7.0], [0.0, 0.0, 0.0, 0.0]]],),
        )
    ],
    "std": [
        (([5.0, 5.0, 5.0],), {"axis": None, "keepdims": False, "correction": 0}, 7.0, ([0.0, 0.0, 0.0],)),
        (
            ([[1.0, 3.0], [2.0, 2.0]],),
            {"axis": (1,), "keepdims": False, "correction": 0},
            [1.0, 1.0],
            ([[-0.5, 0.5], [0.0, 0.0]],),
        ),
    ],
    "binary_cross_entropy": [
        (
            ([0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]),
            {},
            [1.0] * 4,
            ([0.0, 1e12, 0.0, -1e12], [100.0, -100.0, -100.0, 100.0]),
        )
    ],
    "vector_norm": [
        (([0.0, 0.0],), {"axis": None, "ord": 2}, [5.0], ([0.0, 0.0],)),
        (([[3.0, 4.0], [0.0, 0.0]],), {"axis": (1,), "ord": 2}, [[5.0], [5.0]], ([[3.0, 4.0], [0.0, 0.0]],)),
        (([0.0, 0.0],), {"axis": (0,), "ord": 3}, [5.0], ([0.0, 0.0],)),
        (([0.0, -2.0],), {"axis": (0,), "ord": 3}, [5.0], ([0.0, -5.0],)),
    ],
    "sort": [
        (([2.0, 1.0, 1.0],), {"axis": 0, "descending": False, "stable": True}, [3.0, 4.0, 5.0], ([5.0, 3.0, 4.0],)),
        (([1.0, 2.0, 2.0],), {"axis": 0, "descending": True, "stable": True}, [3.0, 4.0, 5.0], ([5.0, 3.0, 4.0],)),
    ],
    "leaky_relu": [(([0.0, -0.0, -1.0, 2.0], [0.5] * 4), {}, [8.0] * 4, ([4.0, 4.0, 4.0, 8.0], [0.0, 0.0, -8.0, 0.0]))],
    "hardtanh": [
        (
            ([-1.0, 1.0, -2.0, 2.0, 0.5], [-1.0] * 5, [1.0] * 5),
            {},
            [3.0] * 5,
            ([0.0, 0.0, 0.0, 0.0, 3.0], [3.0, 0.0, 3.0, 0.0, 0.0], [0.0, 3.0, 0.0, 3.0, 0.0]),
        )
    ],
    "relu": [(([0.0, -0.0, -1.0, 2.0],), {}, [5.0] * 4, ([0.0, 0.0, 0.0, 5.0],))],
}


def test_every_declared_tie_is_in_the_table() -> None:
    declared = {name for name in NAMES if OPS[name].ties}
    assert declared == set(TIES)


@pytest.mark.parametrize("name", sorted(TIES))
def test_ties(name: str) -> None:
    check_ties(OPS[name])


def check_ties(op: Op) -> None:
    """The gradients at kinks and ties are those of the table."""
    for arguments, params, cotangent, wanted in TIES[op.name]:
        args = tuple(np.array(a, np.float64) for a in arguments)
        trial = Trial(op, args, params)
        grads = contract.vjp(trial, args, np.array(cotangent))
        for i, (g, w) in enumerate(zip(grads, wanted, strict=True)):
            np.testing.assert_allclose(g, w, rtol=1e-14, atol=0, err_msg=f"{trial}: gradient of argument {i} at a tie")
        contract.check_transposes(trial)  # forward mode follows the same policy
