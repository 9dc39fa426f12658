"""SGD: equal to PyTorch step for step, right by hand, and unharmed by what cannot work."""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn.errors import ArgumentError, GraphError
from tinygrad_nn.graph import writes
from tinygrad_nn.nn.module import Parameter
from tinygrad_nn.optim import SGD, Optimizer
from tinygrad_nn.optim.sgd import BLOCK

OPTIONS = [
    {"momentum": m, "dampening": d, "weight_decay": w, "nesterov": n, "maximize": x}
    for m, d, w, n, x in itertools.product((0.0, 0.9), (0.0, 0.3), (0.0, 0.05), (False, True), (False, True))
    if not (n and (m == 0 or d != 0))
]


def give(p: tg.Tensor, g: Any) -> None:
    p.grad = tg.tensor(np.asarray(g, p.dtype))


def of(values: Any, dtype: str = "float64") -> Parameter:
    return Parameter(np.asarray(values, dtype))


# -- by hand ----------------------------------------------------------------------------------------------------------


def test_plain_step() -> None:
    p = of([1.0, 2.0])
    give(p, [10.0, -4.0])
    SGD([p], lr=0.1).step()
    assert p.data.tolist() == [0.0, 2.4]


def test_momentum_and_weight_decay() -> None:
    p = of([1.0])
    optimizer = SGD([p], lr=0.5, momentum=0.5, weight_decay=0.25)
    give(p, [1.0])
    optimizer.step()  # g = 1 + 1/4, v = 5/4, p = 1 - 5/8 = 3/8
    assert p.item() == 0.375
    optimizer.step()  # g = 1 + 3/32, v = 5/8 + 35/32 = 55/32, p = 3/8 - 55/64
    assert p.item() == 0.375 - 55 / 64


def test_nesterov() -> None:
    p = of([0.0])
    optimizer = SGD([p], lr=1.0, momentum=0.5, nesterov=True)
    give(p, [1.0])
    optimizer.step()  # v = 1, p = -(1 + 1/2)
    assert p.item() == -1.5
    optimizer.step()  # v = 3/2, p = -1.5 - (1 + 3/4)
    assert p.item() == -3.25


def test_dampening_starts_with_the_second_step() -> None:
    p = of([0.0])
    optimizer = SGD([p], lr=1.0, momentum=0.5, dampening=0.75)
    give(p, [4.0])
    optimizer.step()  # v = 4
    assert p.item() == -4.0
    optimizer.step()  # v = 2 + 4/4
    assert p.item() == -7.0


def test_maximize_climbs() -> None:
    p = of([1.0])
    give(p, [2.0])
    SGD([p], lr=0.5, maximize=True).step()
    assert p.item() == 2.0


# -- beside PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ",".join(f"{k}={v}" for k, v in o.items() if v) or "plain")
def test_equals_torch(options: dict[str, Any], dtype: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    shapes = [(4, 3), (), (5,), (0, 2), (2, 1, 3)]
    start = [rng.standard_normal(s).astype(dtype) for s in shapes]
    ours = [Parameter(a) for a in start]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in start]
    mine, other = SGD(ours, lr=0.05, **options), torch.optim.SGD(theirs, lr=0.05, **options)
    for step in range(60):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            if (step + i) % 7 == 3:  # now and then one has no gradient
                p.grad = q.grad = None
                continue
            g = rng.standard_normal(shapes[i]).astype(dtype) + 0.3 * p.data
            give(p, g)
            q.grad = torch.tensor(g)
        if step == 30:
            mine.param_groups[0]["lr"] = other.param_groups[0]["lr"] = 0.01
        mine.step()
        other.step()
        tolerance = 3e-6 if dtype == "float32" else 1e-14
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=tolerance, atol=tolerance)
            assert p.dtype == dtype


def test_groups_equal_torch() -> None:
    torch = pytest.importorskip("torch")
    values = [np.arange(3.0), np.ones((2, 2)), np.full(1, 5.0)]
    ours = [Parameter(a) for a in values]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in values]

    def made(kind: Any, a: list[Any]) -> Any:
        optimizer = kind([{"params": a[:1]}, {"params": a[1], "lr": 0.5, "momentum": 0.0}], lr=0.1, momentum=0.9)
        optimizer.add_param_group({"params": a[2:], "weight_decay": 0.1})
        return optimizer

    mine, other = made(SGD, ours), made(torch.optim.SGD, theirs)
    for _ in range(5):
        for p, q in zip(ours, theirs, strict=True):
            give(p, np.cos(p.data))
            q.grad = torch.cos(q.detach())
        mine.step()
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-13)


# -- large and odd arrays ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True}, {"momentum": 0.5}])
@pytest.mark.parametrize("layout", ["C", "F", "mixed", "strided", "one row"])
def test_blocks_compute_the_same(layout: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    shape = (1, 3 * BLOCK + 5) if layout == "one row" else (700, 301)
    values, gradients = rng.standard_normal(shape), [rng.standard_normal(shape) for _ in range(3)]
    p = Parameter(np.zeros(1))
    p.data = np.asarray(values, order="F" if layout == "F" else "C").copy("K")
    wide = np.zeros((shape[0], 2 * shape[1]))
    if layout == "strided":
        wide[:, ::2] = values
        p.data = wide[:, ::2]
    small = [Parameter(row) for row in values[:, :10]]  # the same numbers in small parameters
    large, rows = SGD([p], lr=0.1, **options), SGD(small, lr=0.1, **options)
    for g in gradients:
        p.grad = tg.asarray(np.asfortranarray(g) if layout in ("F", "mixed") else g)
        for q, row in zip(small, g, strict=True):
            give(q, row[:10])
        large.step()
        rows.step()
    np.testing.assert_array_equal(p.data[:, :10], np.stack([q.data for q in small]))
    if not options:
        np.testing.assert_allclose(p.data, values - 0.1 * sum(gradients), rtol=1e-12, atol=1e-12)
    if layout == "strided":
        assert not wide[:, 1::2].any()


def test_writes_into_the_array_itself() -> None:
    p = of(np.ones(3))
    array = p.data
    give(p, [1.0, 2.0, 3.0])
    gradient = p.grad
    SGD([p], lr=1.0, momentum=0.9).step()
    assert p.data is array
    assert p.grad is gradient and gradient is not None and gradient.data.tolist() == [1.0, 2.0, 3.0]


def test_state_does_not_share_the_gradient() -> None:
    p = of(np.ones(3))
    optimizer = SGD([p], lr=1.0, momentum=0.9)
    give(p, np.ones(3))
    optimizer.step()
    assert p.grad is not None
    p.grad.data[...] = 7.0
    assert optimizer.state[p]["momentum_buffer"].tolist() == [1.0, 1.0, 1.0]


def test_half_precision_stays_half() -> None:
    p = of([1.0, 2.0], "float16")
    give(p, [1.0, 1.0])
    optimizer = SGD([p], lr=0.5, momentum=0.5, weight_decay=0.5, nesterov=True)
    optimizer.step()
    assert p.dtype == np.float16
    assert optimizer.state[p]["momentum_buffer"].dtype == np.float16


# -- with the graph ---------------------------------------------------------------------------------------------------


def test_a_real_descent() -> None:
    x = of([3.0, -2.0])
    optimizer = SGD([x], lr=0.1, momentum=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        (x * x).sum().backward()
        optimizer.step()
    assert abs(x.data).max() < 1e-9


def test_backward_after_a_step_through_what_it_overwrote_is_refused() -> None:
    x = of([3.0])
    optimizer = SGD([x], lr=0.1)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(GraphError, match=r"SGD\.step wrote into"):
        y.backward()
    (x * x).sum().backward()  # a new graph is fine


def test_a_step_through_a_view_is_noticed() -> None:
    base = np.ones(4)
    t, p = tg.asarray(base).requires_grad_(), tg.Tensor(base[1:3], requires_grad=True)
    y = (t * t).sum()
    give(p, [1.0, 1.0])
    SGD([p], lr=0.1).step()
    with pytest.raises(GraphError, match=r"SGD\.step"):
        y.backward()


def test_notes_leave_nothing_behind() -> None:
    before = len(writes._stamps)
    p = of(np.ones(3))
    optimizer = SGD([p], lr=0.1)
    for _ in range(3):
        give(p, np.ones(3))
        optimizer.step()
    assert len(writes._stamps) == before + 1
    del p, optimizer
    assert len(writes._stamps) == before


def test_closure_runs_with_recording_and_its_loss_is_returned() -> None:
    x = of([1.0])
    optimizer = SGD([x], lr=0.25)

    def closure() -> tg.Tensor:
        optimizer.zero_grad()
        loss = (x * x).sum()
        loss.backward()
        return loss

    with tg.no_grad():
        assert optimizer.step(closure).item() == 1.0
    assert x.item() == 0.5
    assert optimizer.step() is None


def test_what_has_no_gradient_is_passed_over() -> None:
    a, b, frozen = of([1.0]), of([1.0]), of([1.0]).requires_grad_(False)
    give(a, [1.0])
    optimizer = SGD([a, b, frozen], lr=1.0, momentum=0.9, weight_decay=1.0)
    optimizer.step()
    assert (a.item(), b.item(), frozen.item()) == (-1.0, 1.0, 1.0)
    assert list(optimizer.state) == [a]


def test_zero_grad() -> None:
    a, frozen = of([1.0]), of([1.0]).requires_grad_(False)
    give(a, [1.0])
    SGD([a, frozen], lr=1.0).zero_grad()
    assert a.grad is None


# -- what cannot work leaves everything as it was ---------------------------------------------------------------------


def broken(how: str) -> tuple[SGD, list[Parameter]]:
    """An optimizer with a velocity already, of which the second parameter cannot be updated."""
    params = [of([1.0, 2.0]), of([3.0])]
    optimizer = SGD(params, lr=0.5, momentum=0.9)
    for p in params:
        give(p, np.ones(p.shape))
    optimizer.step()
    if how == "shape":
        params[1].data = np.ones((2, 1))
    elif how == "dtype":
        params[1].data = np.ones(1, np.float32)
    elif how == "state":
        params[1].data = np.ones((2, 1))
        give(params[1], np.ones((2, 1)))
    elif how == "read-only":
        params[1].data.flags.writeable = False
    return optimizer, params


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shape", r"SGD\.step: parameter 1 is float64\(2, 1\), but its gradient is float64\(1,\); nothing was updated"),
        ("dtype", r"parameter 1 is float32\(1,\), but its gradient is float64\(1,\)"),
        ("state", r"parameter 1 is float64\(2, 1\), but its 'momentum_buffer' is float64\(1,\)"),
        ("read-only", r"parameter 1 is float64\(1,\), an array that cannot be written; nothing was updated"),
    ],
)
def test_a_step_that_cannot_be_done_changes_nothing(how: str, message: str) -> None:
    optimizer, params = broken(how)
    before = [p.data.copy() for p in params], copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ArgumentError, match=message):
        optimizer.step()
    for p, old in zip(params, before[0], strict=True):
        np.testing.assert_array_equal(p.data, old)
    assert repr(optimizer.state_dict()) == repr(before[1])


def test_nan_and_overflow_are_no_failure() -> None:
    params = [of([1.0, 1.0], "float32"), of([1.0], "float32")]
    give(params[0], [np.nan, 3e38])
    give(params[1], [1.0])
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        SGD(params, lr=10.0).step()
    assert np.isnan(params[0].data[0]) and params[0].data[1] == -np.inf
    assert params[1].item() == -9.0


def test_a_closure_that_raises_changes_nothing() -> None:
    p = of([1.0])
    give(p, [1.0])

    def closure() -> None:
        raise KeyError("user")

    with pytest.raises(KeyError, match="user"):
        SGD([p], lr=1.0).step(closure)
    assert p.item() == 1.0


# -- construction -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, r"SGD: lr must be a number ≥ 0, not -0\.1"),
        ({"lr": float("nan")}, "SGD: lr must be a number ≥ 0, not nan"),
        ({"momentum": -0.9}, r"momentum must be a number ≥ 0, not -0\.9"),
        ({"weight_decay": -1.0}, r"weight_decay must be a number ≥ 0, not -1\.0"),
        ({"nesterov": True}, "nesterov needs momentum > 0 and dampening = 0, not momentum=0"),
        ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs .* dampening=0.1"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SGD([of([1.0])], **options)


def test_nothing_to_train() -> None:
    with pytest.raises(ArgumentError, match=r"SGD: params is empty.*a generator.*only once"):
        SGD([], lr=0.1)
    generator = (p for p in [of([1.0])])
    SGD(generator, lr=0.1)
    with pytest.raises(ArgumentError, match="params is empty"):
        SGD(generator, lr=0.1)
    with pytest.raises(ArgumentError, match="group 0: it has no parameters"):
        SGD([{"params": []}], lr=0.1)


def test_what_is_no_list_of_tensors() -> None:
    p = of([1.0])
    with pytest.raises(TypeError, match=r"SGD: params must be an iterable of tensors.*not float64\(1,\)"):
        SGD(p, lr=0.1)
    with pytest.raises(TypeError, match="not a dict"):
        SGD({"params": [p]}, lr=0.1)
    with pytest.raises(TypeError, match="not a int"):
        SGD(3, lr=0.1)
    with pytest.raises(TypeError, match="group 0: parameter 1 is a ndarray, not a tensor"):
        SGD([p, p.data], lr=0.1)


def test_only_leaves() -> None:
    p = of([1.0])
    with pytest.raises(GraphError, match=r"group 0: parameter 0, float64\(1,\), is the result of an operation"):
        SGD([p * 2.0], lr=0.1)


def test_each_parameter_once() -> None:
    p, q = of([1.0]), of([2.0])
    with pytest.raises(ArgumentError, match=r"group 0: parameter 1, float64\(1,\), is in this optimizer already"):
        SGD([p, p], lr=0.1)
    with pytest.raises(ArgumentError, match="group 1: parameter 0"):
        SGD([{"params": [p]}, {"params": [p]}], lr=0.1)
    optimizer = SGD([p], lr=0.1)
    with pytest.raises(ArgumentError, match="group 1: parameter 1"):
        optimizer.add_param_group({"params": [q, p]})
    assert len(optimizer.param_groups) == 1


def test_groups_are_checked() -> None:
    p, q = of([1.0]), of([2.0])
    optimizer = SGD([p], lr=0.1)
    with pytest.raises(ArgumentError, match=r"group 1: unknown options \['beta'\]; there are \['lr', 'momentum'"):
        optimizer.add_param_group({"params": [q], "beta": 1})
    with pytest.raises(ArgumentError, match="lr must be a number"):
        optimizer.add_param_group({"params": [q], "lr": -1})
    with pytest.raises(ArgumentError, match=r"""a dict with "params", not keys \['lr'\]"""):
        optimizer.add_param_group({"lr": 1.0})
    with pytest.raises(ArgumentError, match=r"""a dict with "params", not a list"""):
        optimizer.add_param_group([q])
    assert len(optimizer.param_groups) == 1


def test_defaults_fill_the_groups() -> None:
    optimizer = SGD([{"params": [of([1.0])], "lr": 0.5}], momentum=0.9)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.5, 0.9, False)


def test_repr() -> None:
    text = repr(SGD([of(np.ones((2, 3))), of([1.0])], lr=0.1))
    assert text.startswith("SGD\n  group 0: 2 tensors, 7 parameters; lr=0.1, momentum=0.0")


def test_the_base_says_what_a_subclass_must_write() -> None:
    p = of([1.0])
    give(p, [1.0])
    with pytest.raises(NotImplementedError, match="Optimizer defines no update"):
        Optimizer([p], {}).step()


# -- transport --------------------------------------------------------------------------------------------------------


def walk(optimizer: SGD, steps: int) -> None:
    for _ in range(steps):
        for group in optimizer.param_groups:
            for p in group["params"]:
                give(p, np.cos(p.data))
        optimizer.step()


def test_state_dict_continues_where_it_was() -> None:
    a, b = [of([1.0, 2.0]), of(3.0)], [of([1.0, 2.0]), of(3.0)]
    one, two = SGD(a, lr=0.1, momentum=0.9), SGD(b, lr=0.7)
    walk(one, 3)
    state = one.state_dict()
    for p, q in zip(a, b, strict=True):
        q.data[...] = p.data
    two.load_state_dict(state)
    walk(one, 4)
    walk(two, 4)
    for p, q in zip(a, b, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    assert state["param_groups"][0]["params"] == [0, 1]
    assert state["state"][0]["momentum_buffer"].shape == (2,)


def test_state_dict_is_a_snapshot() -> None:
    p = of([1.0])
    optimizer = SGD([p], lr=0.1, momentum=0.9)
    walk(optimizer, 1)
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    walk(optimizer, 3)
    assert state == before
    fresh = SGD([p], lr=0.1)
    fresh.load_state_dict(state)
    walk(fresh, 1)
    assert state == before


def test_state_of_torch_loads() -> None:
    torch = pytest.importorskip("torch")
    q = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    other = torch.optim.SGD([q], lr=0.1, momentum=0.9)
    q.grad = torch.tensor([0.5, 0.25])
    other.step()
    p = Parameter(q.detach().numpy())
    mine = SGD([p], lr=9.0)
    mine.load_state_dict(other.state_dict())
    other.step()
    give(p, [0.5, 0.25])
    mine.step()
    np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("state"), r"\['state'\] missing; this is not the state of an optimizer"),
        (
            lambda s: s["param_groups"][0]["params"].pop(),
            r"groups of \[1\] parameters given, but this optimizer has \[2\]",
        ),
        (lambda s: s["param_groups"][0].pop("momentum"), r"group 0 lacks the options \['momentum'\]"),
        (lambda s: s["param_groups"][0].update(lr=-1), "lr must be a number"),
        (lambda s: s["state"].update({9: {}}), "state for parameter 9, which is in no group"),
        (
            lambda s: s["state"][1].update(momentum_buffer=np.ones(3)),
            r"'momentum_buffer' of parameter 1 is float64\(3,\), but the parameter is float64\(\)",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(damage: Any, message: str) -> None:
    optimizer = SGD([of([1.0, 2.0]), of(3.0)], lr=0.1, momentum=0.9)
    walk(optimizer, 1)
    before = repr(optimizer.state_dict())
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 0.2
    damage(state)
    with pytest.raises(ArgumentError, match=message):
        optimizer.load_state_dict(state)
    assert repr(optimizer.state_dict()) == before


@pytest.mark.parametrize("carry", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_go_on_alike(carry: Any) -> None:
    params = [of([1.0, 2.0]), of(3.0)]
    optimizer = SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True)
    walk(optimizer, 2)
    twins, twin = carry((params, optimizer))
    walk(optimizer, 3)
    walk(twin, 3)
    for p, q in zip(params, twins, strict=True):
        assert p is not q
        np.testing.assert_array_equal(p.data, q.data)
