"""Layers and containers beside PyTorch's: the same values, gradients, names and shapes; and their errors."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import nn
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError

# (how to make the layer in either library, the shape of its input)
LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda n: n.Linear(5, 3), (4, 5)),
    "linear without bias": (lambda n: n.Linear(5, 3, bias=False), (4, 5)),
    "linear on one example": (lambda n: n.Linear(5, 3), (5,)),
    "linear on a batch of rows": (lambda n: n.Linear(5, 3), (2, 4, 5)),
    "conv": (lambda n: n.Conv2d(2, 4, 3), (2, 2, 6, 5)),
    "conv with everything": (lambda n: n.Conv2d(4, 6, (2, 3), (2, 1), (1, 2), (2, 1), 2, False), (2, 4, 7, 6)),
    "conv same": (lambda n: n.Conv2d(2, 3, 3, padding="same"), (1, 2, 5, 5)),
    "conv on one image": (lambda n: n.Conv2d(2, 3, 3), (2, 5, 5)),
    "max pool": (lambda n: n.MaxPool2d(2), (2, 3, 6, 4)),
    "max pool with everything": (lambda n: n.MaxPool2d((3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True), (2, 3, 6, 7)),
    "avg pool": (lambda n: n.AvgPool2d(2), (2, 3, 6, 4)),
    "avg pool with everything": (lambda n: n.AvgPool2d(3, 2, 1, True, False), (2, 3, 6, 7)),
    "flatten": (lambda n: n.Flatten(), (2, 3, 4)),
    "flatten some": (lambda n: n.Flatten(1, 2), (2, 3, 4, 2)),
    "identity": (lambda n: n.Identity(), (3,)),
    "sigmoid": (lambda n: n.Sigmoid(), (4, 3)),
    "tanh": (lambda n: n.Tanh(), (4, 3)),
    "relu": (lambda n: n.ReLU(), (4, 3)),
    "leaky relu": (lambda n: n.LeakyReLU(), (4, 3)),
    "leaky relu steep": (lambda n: n.LeakyReLU(0.3), (4, 3)),
    "gelu": (lambda n: n.GELU(), (4, 3)),
    "gelu tanh": (lambda n: n.GELU("tanh"), (4, 3)),
    "silu": (lambda n: n.SiLU(), (4, 3)),
    "softplus": (lambda n: n.Softplus(), (4, 3)),
    "softplus steep": (lambda n: n.Softplus(30.0, 5.0), (4, 3)),
    "softmax": (lambda n: n.Softmax(1), (4, 3)),
    "log softmax": (lambda n: n.LogSoftmax(0), (4, 3)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_equals_torch(name: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    make, shape = LAYERS[name]
    ours, theirs = make(nn), make(torch.nn)
    if dtype == "float64":
        ours.double(), theirs.double()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    values = np.random.default_rng(3).standard_normal(shape).astype(dtype)
    x, z = tg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)
    y, u = ours(x), theirs(z)
    g = np.random.default_rng(4).standard_normal(y.shape).astype(dtype)
    y.backward(g)
    u.backward(torch.tensor(g))
    tolerance = 2e-5 if dtype == "float32" else 1e-11
    near = {"rtol": tolerance, "atol": tolerance}
    assert y.dtype == dtype and x.grad is not None
    np.testing.assert_allclose(y.data, u.detach().numpy(), **near)
    np.testing.assert_allclose(x.grad.data, z.grad.numpy(), **near)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert p.grad is not None and p.grad.dtype == dtype
        np.testing.assert_allclose(p.grad.data, q.grad.numpy(), **near)


def test_embedding_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    ours, theirs = nn.Embedding(7, 3, padding_idx=-2), torch.nn.Embedding(7, 3, padding_idx=-2)
    assert ours.padding_idx == theirs.padding_idx == 5
    assert not ours.weight.data[5].any() and ours.weight.data[4].any()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    numbers = np.array([[1, 5, 1], [0, 6, 2]])
    y, u = ours(numbers), theirs(torch.tensor(numbers))
    np.testing.assert_array_equal(y.data, u.detach().numpy())
    (y * y).sum().backward()
    (u * u).sum().backward()
    assert ours.weight.grad is not None
    np.testing.assert_allclose(ours.weight.grad.data, theirs.weight.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [lambda n: n.Linear(400, 300), lambda n: n.Conv2d(8, 60, (3, 5), groups=2), lambda n: n.Embedding(300, 200)],
    ids=["linear", "conv", "embedding"],
)
def test_starting_values_are_distributed_as_torchs(make: Any) -> None:
    torch = pytest.importorskip("torch")
    tg.manual_seed(0)
    torch.manual_seed(0)
    ours, theirs = make(nn), make(torch.nn)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        a, b = p.data, q.detach().numpy()
        assert a.shape == b.shape and a.dtype == b.dtype
        few = 5 / a.size**0.5
        assert abs(a.std() / b.std() - 1) < few
        assert abs(a.mean() - b.mean()) < few * b.std()
        assert abs(abs(a).max() / abs(b).max() - 1) < 0.2


def test_linear_starts_within_its_bounds() -> None:
    layer = nn.Linear(100, 50)
    for p in layer.parameters():
        assert 0.09 < abs(p.data).max() <= 0.1


def test_the_seed_settles_the_starting_values() -> None:
    tg.manual_seed(5)
    a = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 2, 3), nn.Embedding(3, 2)).state_dict()
    tg.manual_seed(5)
    b = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(1, 2, 3), nn.Embedding(3, 2)).state_dict()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name])


def test_layers_take_a_dtype() -> None:
    for layer in (
        nn.Linear(2, 3, dtype="float64"),
        nn.Conv2d(1, 2, 3, dtype="float64"),
        nn.Embedding(2, 3, dtype="f8"),
    ):
        assert {p.dtype for p in layer.parameters()} == {np.dtype("float64")}
    tg.set_default_dtype("float64")
    try:
        assert nn.Linear(2, 3).weight.dtype == np.float64
    finally:
        tg.set_default_dtype("float32")


def test_plain_arrays_go_in() -> None:
    assert nn.Linear(2, 3)(np.ones((4, 2), "f4")).requires_grad
    assert isinstance(nn.ReLU()(np.array([-1.0, 2.0])), np.ndarray)


def test_step_gives_integers() -> None:
    y = nn.Step()(np.array([-1.0, 1.0, 2.0]))
    assert y.tolist() == [0, 1, 1] and y.dtype.kind == "i"


def test_dropout() -> None:
    tg.manual_seed(1)
    layer, x = nn.Dropout(0.25), tg.ones(10_000, requires_grad=True)
    y = layer(x)
    kept = y.data != 0
    assert 0.73 < kept.mean() < 0.77
    np.testing.assert_allclose(y.data[kept], 1 / 0.75, rtol=1e-6)
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, y.data)
    assert layer.eval()(x) is x
    assert not nn.Dropout(1.0)(x).data.any()


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 3), "Linear: in_features must be an integer of at least 1, not 0"),
        (lambda: nn.Linear(3, 2.5), r"Linear: out_features must be an integer of at least 1, not 2\.5"),
        (lambda: nn.Conv2d(-1, 2, 3), "Conv2d: in_channels must be an integer of at least 1, not -1"),
        (lambda: nn.Conv2d(4, 6, 3, groups=4), "groups=4 must divide in_channels=4 and out_channels=6"),
        (lambda: nn.Conv2d(4, 6, 0), "Conv2d: kernel_size must be at least 1, not 0"),
        (lambda: nn.Conv2d(4, 6, 3, padding="full"), "padding must be numbers, 'same' or 'valid', not 'full'"),
        (lambda: nn.Conv2d(4, 6, 3, padding=-1), "Conv2d: padding must be at least 0"),
        (lambda: nn.MaxPool2d(0), "MaxPool2d: kernel_size must be at least 1"),
        (lambda: nn.AvgPool2d("2"), "AvgPool2d: kernel_size must be an integer or a pair"),
        (lambda: nn.Dropout(1.5), r"Dropout: p is a probability, from 0 to 1, not 1\.5"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), "padding_idx=3 is not one of 3 rows"),
        (lambda: nn.Embedding(3, 0), "embedding_dim must be an integer"),
    ],
)
def test_layers_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make()


def test_a_wrong_dtype_is_refused() -> None:
    with pytest.raises(DTypeError, match="int64"):
        nn.Linear(2, 3, dtype="int64")


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (
            nn.Linear(784, 50),
            (32, 28),
            r"Linear\(in_features=784, out_features=50\): the input float32\(32, 28\) has 28 features .*=784",
        ),
        (nn.Linear(2, 3), (), r"the input float32\(\) has no axis, not in_features=2"),
        (nn.Conv2d(3, 8, 3), (4, 1, 9, 9), r"Conv2d\(3, 8, .*\): the input float32\(4, 1, 9, 9\) has 1 channels"),
        (nn.Conv2d(1, 8, 5), (1, 1, 3, 3), r"conv2d: .*covers windows of \(5, 5\)"),
        (nn.Conv2d(1, 8, 5), (9, 9), r"must have axes"),
    ],
)
def test_inputs_that_do_not_fit(layer: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        layer(tg.ones(shape))


def test_a_damaged_weight_is_not_blamed_on_the_input() -> None:
    layer = nn.Linear(2, 3)
    layer.bias = nn.Parameter([1.0])
    with pytest.raises(ShapeError, match="bias"):
        layer(tg.ones((4, 2)))


# -- containers -------------------------------------------------------------------------------------------------------


def three() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))


def test_sequential_is_like_a_list() -> None:
    net = three()
    assert len(net) == 3 and [type(m).__name__ for m in net] == ["Linear", "ReLU", "Linear"]
    assert net[-1] is net[2] and isinstance(net[:2], nn.Sequential) and list(net[:2])[0] is net[0]
    assert list(net[2:].state_dict()) == ["0.weight", "0.bias"]
    first = net[0]
    net[0] = nn.Linear(2, 3, bias=False)
    assert list(net.state_dict()) == ["0.weight", "2.weight", "2.bias"] and net(tg.ones((1, 2))).shape == (1, 1)
    net.append(nn.Sigmoid()).extend([nn.Identity()])
    net.insert(1, nn.Tanh())
    assert [type(m).__name__ for m in net] == ["Linear", "Tanh", "ReLU", "Linear", "Sigmoid", "Identity"]
    del net[0], net[-1]
    assert list(net.state_dict()) == ["2.weight", "2.bias"] and first not in list(net)
    del net[1:]
    assert [n for n, _ in net.named_children()] == ["0"]
    with pytest.raises(IndexError, match="index 5, but it has 1 modules"):
        net[5]
    with pytest.raises(IndexError, match="index 1, but"):
        net[1] = nn.ReLU()


def test_sequential_runs_in_order_and_keeps_its_mode() -> None:
    net = nn.Sequential(nn.LeakyReLU(2.0), nn.ReLU()).eval()
    assert net(np.array([-1.0, 3.0])).tolist() == [0.0, 3.0]
    assert nn.Sequential()(7) == 7


def test_sequential_with_names() -> None:
    net = nn.Sequential(OrderedDict(fc=nn.Linear(2, 3), act=nn.ReLU()))
    assert net.fc is net[0] and list(net.state_dict()) == ["fc.weight", "fc.bias"]
    net.fc = nn.Linear(2, 3, bias=False)
    assert list(net.state_dict()) == ["fc.weight"] and net(tg.ones((1, 2))).shape == (1, 3)
    assert list(net[:1].state_dict()) == ["fc.weight"]


def test_one_layer_used_twice() -> None:
    layer = nn.Linear(2, 2)
    net = nn.Sequential(layer, nn.ReLU(), layer)
    assert len(list(net.parameters())) == 2 and len(net) == 3
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert "2: Linear(in_features=2, out_features=2)  (shared)" in repr(net) and repr(net).endswith("6 parameters")


def test_module_list() -> None:
    rows = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(rows) == 3 and [n for n, _ in rows.named_parameters()][:2] == ["0.weight", "0.bias"]
    rows.append(nn.ReLU())
    assert isinstance(rows[1:], nn.ModuleList) and len(rows[1:]) == 3
    with pytest.raises(NotImplementedError, match="ModuleList defines no forward"):
        rows(1)


def test_module_dict() -> None:
    heads = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Linear(2, 2)})
    assert len(heads) == 2 and list(heads) == ["a", "b"] and "a" in heads and "c" not in heads
    assert list(heads.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert list(heads.keys()) == ["a", "b"] and next(iter(heads.values())) is heads["a"]
    heads.update([("c", nn.ReLU())])
    removed = heads.pop("a")
    del heads["c"]
    assert [k for k, _ in heads.items()] == ["b"] and isinstance(removed, nn.Linear)
    with pytest.raises(KeyError, match="no module 'a'; there are"):
        heads["a"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Sequential(nn.ReLU), TypeError, "Sequential: '0' must be a Module.*an instance is wanted"),
        (lambda: nn.Sequential(nn.ReLU(), np.tanh), TypeError, "Sequential: '1' must be a Module, not <ufunc 'tanh'>"),
        (lambda: nn.ModuleList([1]), TypeError, "ModuleList: '0' must be a Module, not 1"),
        (lambda: three().append(3), TypeError, "must be a Module"),
        (lambda: nn.ModuleDict({"a.b": nn.ReLU()}), ArgumentError, "'a.b' cannot be the name of a module"),
        (lambda: nn.ModuleDict({"forward": nn.ReLU()}), ArgumentError, "'forward' cannot be the name"),
        (lambda: nn.Sequential({"": nn.ReLU()}), ArgumentError, "'' cannot be the name"),
    ],
)
def test_containers_that_cannot_be(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_refused_part_leaves_the_container_as_it_was() -> None:
    net = three()
    with pytest.raises(TypeError, match="must be a Module"):
        net.insert(0, "text")
    assert [type(m).__name__ for m in net] == ["Linear", "ReLU", "Linear"]
