"""Modules: what they find in their attributes, how their state travels, how they print."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError, DTypeError, GraphError
from tinygrad_nn.optim import SGD


class Net(nn.Module):
    """Every kind of place that a part can be in."""

    def __init__(self) -> None:
        self.first = nn.Linear(2, 3)
        self.scale = nn.Parameter(2.0)
        self.blocks = [nn.Linear(3, 3, bias=False), (nn.ReLU(), nn.Linear(3, 3))]
        self.heads = {"a": nn.Linear(3, 1), "extra": nn.Parameter([1.0, 2.0])}
        self.tied = self.first
        self.note = "text"
        self.plain = tg.ones(3)
        self.register_buffer("mean", tg.zeros(3))
        self.register_buffer("cache", tg.ones(1), persistent=False)
        self.register_buffer("unset", None)

    def forward(self, x: Any) -> Any:
        x = self.blocks[0](self.first(x))
        return self.heads["a"](x) * self.scale


NAMES = [
    "scale",
    "first.weight",
    "first.bias",
    "blocks.0.weight",
    "blocks.1.1.weight",
    "blocks.1.1.bias",
    "heads.extra",
    "heads.a.weight",
    "heads.a.bias",
]


# -- Parameter --------------------------------------------------------------------------------------------------------


def test_parameter_requires_a_gradient_and_owns_its_array() -> None:
    array = np.ones(3)
    p = nn.Parameter(array)
    p.data[...] = 5.0
    assert p.requires_grad and isinstance(p, tg.Tensor) and p.dtype == np.float64
    assert array.tolist() == [1.0, 1.0, 1.0]
    assert nn.Parameter([1.0]).dtype == np.float32
    assert not nn.Parameter([1.0], requires_grad=False).requires_grad


def test_parameter_of_integers_is_refused() -> None:
    with pytest.raises(DTypeError, match="int64 cannot have a gradient"):
        nn.Parameter([1, 2])


@pytest.mark.parametrize("carry", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_parameter_stays_one_when_copied(carry: Any) -> None:
    for wanted in (True, False):
        p = nn.Parameter([1.0, 2.0], requires_grad=wanted)
        twin = carry(p)
        assert type(twin) is nn.Parameter and twin.requires_grad is wanted
        assert twin.data.tolist() == [1.0, 2.0] and not np.shares_memory(twin.data, p.data)


def test_operations_on_parameters_give_tensors() -> None:
    assert type(nn.Parameter([1.0]) * 2.0) is tg.Tensor


# -- walking ----------------------------------------------------------------------------------------------------------


def test_parameters_are_found_everywhere_once_in_definition_order() -> None:
    net = Net()
    named = dict(net.named_parameters())
    assert list(named) == NAMES
    assert list(net.parameters()) == list(named.values()) or all(
        p is q for p, q in zip(net.parameters(), named.values(), strict=True)
    )
    assert named["first.weight"] is net.first.weight


def test_order_is_torchs() -> None:
    torch = pytest.importorskip("torch")

    def define(lib: Any, self: Any) -> None:
        self.a = lib.nn.Linear(1, 1)
        self.p = lib.nn.Parameter(lib.ones(1))
        self.rows = lib.nn.ModuleList([lib.nn.Linear(1, 2), lib.nn.Linear(2, 1)])
        self.q = lib.nn.Parameter(lib.ones(2))
        self.register_buffer("b", lib.zeros(1))
        self.again = self.a

    class Ours(nn.Module):
        def __init__(self) -> None:
            define(tg, self)

    class Theirs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            define(torch, self)

    ours, theirs = Ours(), Theirs()
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_modules_and_children() -> None:
    net = Net()
    assert [n for n, _ in net.named_modules()] == ["", "first", "blocks.0", "blocks.1.0", "blocks.1.1", "heads.a"]
    assert [n for n, _ in net.named_children()] == ["first", "blocks.0", "blocks.1.0", "blocks.1.1", "heads.a"]
    assert next(net.modules()) is net and len(list(net.children())) == 5
    outer = nn.Sequential(net)
    assert [n for n, _ in outer.named_children()] == ["0"]
    assert next(n for n, _ in outer.named_parameters(prefix="net")) == "net.0.scale"
    assert [n for n, _ in net.named_modules(remove_duplicate=False)][-1] == "tied"


def test_without_recursion_only_what_is_ones_own() -> None:
    assert [n for n, _ in Net().named_parameters(recurse=False)] == ["scale", "heads.extra"]
    assert [n for n, _ in nn.Sequential(Net()).named_buffers(recurse=False)] == []


def test_a_module_inside_itself_is_walked_once() -> None:
    net = nn.Sequential(nn.Linear(1, 1))
    net.owner = [net]
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias"]
    assert "2 parameters" in repr(net)


def test_attributes_are_ordinary() -> None:
    net = Net()
    with pytest.raises(AttributeError, match="wieght"):
        _ = net.first.wieght
    net.first = nn.Linear(2, 3, bias=False)
    net.tied = net.first
    del net.scale
    assert [n for n, _ in net.named_parameters()][:2] == ["first.weight", "blocks.0.weight"]


def test_super_init_may_be_called_or_not() -> None:
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter([1.0])

    class NotCalled(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter([1.0])

    for kind in (Called, NotCalled):
        assert len(list(kind().eval().parameters())) == 1


def test_forward_must_be_there() -> None:
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match="Empty defines no forward"):
        Empty()(1)


# -- buffers ----------------------------------------------------------------------------------------------------------


def test_buffers() -> None:
    net = Net()
    assert [n for n, _ in net.named_buffers()] == ["mean", "cache"]
    assert "mean" in net.state_dict() and "cache" not in net.state_dict() and "unset" not in net.state_dict()
    net.mean = tg.ones(3)  # another value, still the buffer
    assert [b.data.sum() for b in net.buffers()] == [3.0, 1.0]
    assert [n for n, _ in nn.Sequential(net, net).named_buffers()] == ["0.mean", "0.cache"]


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("b", np.ones(2), TypeError, r"'b' must be a Tensor \(no Parameter\) or None, not float64\(2,\)"),
        ("b", nn.Parameter([1.0]), TypeError, "no Parameter"),
        ("a.b", None, ArgumentError, "'a.b' cannot be the name of an attribute"),
        ("", None, ArgumentError, "cannot be the name"),
    ],
)
def test_what_cannot_be_a_buffer(name: str, value: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nn.Identity().register_buffer(name, value)


# -- state ------------------------------------------------------------------------------------------------------------


def test_state_dict_lists_shared_parts_under_each_name_and_is_a_snapshot() -> None:
    net = Net()
    state = net.state_dict()
    assert list(state) == ["scale", "mean", *NAMES[1:], "tied.weight", "tied.bias"]
    net.first.weight.data[...] = 9.0
    assert not (state["first.weight"] == 9.0).any()
    assert type(state["scale"]) is np.ndarray and state["scale"].shape == ()
    assert list(net.state_dict(prefix="net"))[0] == "net.scale"


def test_load_state_dict_writes_in_place() -> None:
    a, b = Net(), Net()
    weight, array = b.first.weight, b.first.weight.data
    assert b.load_state_dict(a.state_dict()) == ([], [])
    assert b.first.weight is weight and weight.data is array
    for name, value in a.state_dict().items():
        np.testing.assert_array_equal(b.state_dict()[name], value)
    assert not np.shares_memory(a.first.weight.data, array)
    b.load_state_dict({name: tg.asarray(value) for name, value in a.state_dict().items()})


def test_what_does_not_fit_is_listed_and_nothing_changes() -> None:
    net = Net()
    before = net.state_dict()
    state: dict[str, Any] = {name: value + 1 for name, value in before.items()}
    del state["heads.a.bias"]
    state["wrong"] = np.ones(2)
    state["first.weight"] = state["first.weight"].T
    state["mean"] = state["mean"].astype(np.float64)
    with pytest.raises(ArgumentError, match="does not fit Net; nothing was loaded") as caught:
        net.load_state_dict(state)
    assert str(caught.value).splitlines()[1:] == [
        "  missing: heads.a.bias float32(1,)",
        "  unexpected: wrong float64(2,)",
        (
            "  wrong dtype: mean is float32, given float64 "
            "(convert with astype('float32') of the array, or to() of the module)"
        ),
        "  wrong shape: first.weight is (3, 2), given (2, 3)",
    ]
    with pytest.raises(ArgumentError, match="wrong shape"):
        net.load_state_dict(state, strict=False)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_not_strict_passes_over_names() -> None:
    net = Net()
    result = net.load_state_dict({"scale": np.float32(7.0), "other": np.ones(1)}, strict=False)
    assert result.unexpected_keys == ["other"] and "first.weight" in result.missing_keys
    assert net.scale.item() == 7.0


def test_a_read_only_parameter_is_not_written_half() -> None:
    net = nn.Linear(2, 2)
    net.bias.data.flags.writeable = False
    before = net.weight.data.copy()
    with pytest.raises(ArgumentError, match="cannot be written: bias is a read-only array"):
        net.load_state_dict({"weight": np.zeros((2, 2), "f4"), "bias": np.zeros(2, "f4")})
    np.testing.assert_array_equal(net.weight.data, before)


def test_loading_is_noticed_by_a_recorded_graph() -> None:
    net = nn.Linear(2, 2)
    x = tg.ones((1, 2), requires_grad=True)
    loss = net(x).sum()
    net.load_state_dict(net.state_dict())
    with pytest.raises(GraphError, match="load_state_dict wrote into"):
        loss.backward()


def test_two_parts_of_one_name() -> None:
    net = Net()
    net.heads = {1: nn.Linear(1, 1), "1": nn.Linear(1, 1)}
    with pytest.raises(ArgumentError, match=r"two parts of Net are called 'heads\.1\.weight'"):
        net.state_dict()


def test_state_moves_to_torch_and_back() -> None:
    torch = pytest.importorskip("torch")

    def made(lib: Any) -> Any:
        n = lib.nn
        return n.Sequential(
            OrderedDict(
                conv=n.Conv2d(2, 4, 3, padding=1, groups=2),
                act=n.ReLU(),
                pool=n.MaxPool2d(2),
                flat=n.Flatten(),
                fc=n.Sequential(n.Linear(16, 5), n.Tanh(), n.Linear(5, 3, bias=False)),
            )
        )

    ours, theirs = made(tg), made(torch)
    x = np.random.default_rng(0).standard_normal((3, 2, 4, 4)).astype("f4")
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(tg.asarray(x)).data, expected, rtol=1e-5, atol=1e-6)
    fresh = made(tg)
    fresh.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    np.testing.assert_array_equal(fresh(tg.asarray(x)).data, ours(tg.asarray(x)).data)


@pytest.mark.parametrize("carry", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_whole_and_apart(carry: Any) -> None:
    net = Net()
    net(tg.ones((1, 2))).sum().backward()
    twin = carry(net)
    assert twin.tied is twin.first and [n for n, _ in twin.named_parameters()] == NAMES
    twin.first.weight.data[...] = 0.0
    assert net.first.weight.data.any()
    assert repr(twin) == repr(net)


# -- what acts on all parts -------------------------------------------------------------------------------------------


def test_train_and_eval_reach_all() -> None:
    net = nn.Sequential(Net(), nn.Dropout())
    assert net.training and net[0].first.training
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())


def test_to_converts_floating_parameters_gradients_and_buffers() -> None:
    net = Net()
    net.register_buffer("count", tg.tensor([1, 2]))
    net(tg.ones((1, 2))).sum().backward()
    weight = net.first.weight
    assert net.double() is net and net.first.weight is weight
    assert {t.dtype for t in [*net.parameters(), net.mean]} == {np.dtype("float64")}
    assert weight.grad is not None and weight.grad.dtype == np.float64
    assert net.count.dtype == np.int64
    assert net.half().first.weight.dtype == np.float16 and net.float().first.weight.dtype == np.float32
    net(tg.ones((1, 2))).sum().backward()  # gradients add up in the new dtype


@pytest.mark.parametrize(
    ("dtype", "message"), [("cuda", "'cuda' is no dtype.*no other device"), (int, "int64 is not a floating dtype")]
)
def test_to_what_cannot_be(dtype: Any, message: str) -> None:
    with pytest.raises(DTypeError, match=message):
        nn.Linear(1, 1).to(dtype)


def test_freezing_and_zero_grad() -> None:
    net = Net()
    net(tg.ones((1, 2))).sum().backward()
    assert net.scale.grad is not None
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert net.requires_grad_(False) is net and not any(p.requires_grad for p in net.parameters())
    assert not net(tg.ones((1, 2))).requires_grad


def test_apply_goes_to_parts_first() -> None:
    met: list[str] = []
    net = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU()))
    assert net.apply(lambda m: met.append(type(m).__name__)) is net
    assert met == ["Linear", "ReLU", "Sequential", "Sequential"]


def test_training_a_net_of_odd_containers() -> None:
    tg.manual_seed(0)
    net = Net()
    optimizer = SGD(net.parameters(), lr=0.05)
    x = tg.asarray(np.random.default_rng(0).standard_normal((32, 2)).astype("f4"))
    target = (x * tg.tensor([[1.0, -2.0]])).sum(axis=1, keepdims=True)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = ((net(x) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]


# -- printing ---------------------------------------------------------------------------------------------------------


def test_repr_is_a_tree_with_counts() -> None:
    net = nn.Sequential(nn.Linear(784, 50), nn.Sigmoid(), nn.Sequential(nn.Linear(50, 10, bias=False)))
    assert repr(net).splitlines() == [
        "Sequential",
        "  0: Linear(in_features=784, out_features=50)               39,250",
        "  1: Sigmoid()",
        "  2: Sequential",
        "    0: Linear(in_features=50, out_features=10, bias=False)     500",
        "39,750 parameters",
    ]
    assert repr(nn.ReLU()) == "ReLU()"
    assert repr(nn.Linear(1, 1, bias=False)) == "Linear(in_features=1, out_features=1, bias=False)  1 parameter"


def test_repr_counts_shared_parts_once() -> None:
    text = repr(Net())
    assert "tied: Linear(in_features=2, out_features=3)  (shared)" in text
    assert "scale: Parameter float32()" in text and text.endswith("\n37 parameters")
    assert sum(p.size for p in Net().parameters()) == 37
    assert repr(nn.Sequential(nn.ReLU())).endswith("\n0 parameters")
