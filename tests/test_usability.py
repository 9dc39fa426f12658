"""Mistakes that users of NumPy and PyTorch make: each must be told what to do instead, none may pass in silence."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
import tinygrad_nn.nn.functional as F
from tinygrad_nn import nn, optim
from tinygrad_nn.data.download import Remote, download
from tinygrad_nn.elsewhere import ATTRIBUTES, FUNCTIONS
from tinygrad_nn.errors import ArgumentError, DataError, DTypeError, GraphError, ShapeError

# -- complex numbers: not differentiated, and no real gradient comes out of them wrong --------------------------------


def test_complex_cannot_require_a_gradient() -> None:
    with pytest.raises(DTypeError, match="complex128 cannot have a gradient; keep real"):
        tg.tensor(1 + 2j, requires_grad=True)
    with pytest.raises(DTypeError, match="cannot differentiate by complex128"):
        tg.func.grad(lambda z: z * z)(tg.tensor(1 + 2j))


@pytest.mark.parametrize(
    "through",
    [
        lambda x: tg.absolute(x * (1 + 1j)).sum(),  # its derivative is sqrt(2) * sign(x): real, and it was given as 0
        lambda x: tg.absolute(tg.exp(x * 1j) + 1).sum(),
        lambda x: tg.absolute(x.astype("complex128") * 1j).sum(),
    ],
)
def test_a_gradient_cannot_pass_through_complex_numbers(through: Callable[[Any], Any]) -> None:
    x = tg.tensor(np.array([2.0, -1.0]), requires_grad=True)
    y = through(x)
    with pytest.raises(DTypeError, match="gradients cannot pass through complex numbers"):
        y.backward()
    assert x.grad is None
    with pytest.raises(DTypeError, match="gradients cannot pass through complex numbers"):
        tg.func.jvp(through, (x.detach(),), (tg.ones_like(x.detach()),))


def test_complex_values_are_computed() -> None:
    z = tg.exp(tg.tensor([0.0, np.pi]) * 1j)
    np.testing.assert_allclose(z.numpy(), [1, -1], atol=1e-6)
    assert z.astype("complex128").dtype == np.complex128


# -- attributes that would be set and never looked at -----------------------------------------------------------------


def test_a_learning_rate_set_on_the_optimizer() -> None:
    sgd = optim.SGD([nn.Parameter([1.0])], lr=0.1)
    with pytest.raises(AttributeError, match=r"SGD: lr is an option of each group: .* g\['lr'\] = value"):
        sgd.lr = 0.01
    for group in sgd.param_groups:
        group["lr"] = 0.01
    sgd.note = "other attributes may be set"


def test_a_tensor_in_place_of_a_parameter() -> None:
    layer = nn.Linear(2, 2)
    for value in (tg.ones((2, 2)), np.ones((2, 2)), layer.weight * 2):
        with pytest.raises(TypeError, match="Linear: 'weight' is a Parameter, and .* would not be trained"):
            layer.weight = value
    layer.weight = nn.Parameter(np.ones((2, 2), np.float32))
    layer.bias = None
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    layer.bias = nn.Parameter([0.0, 0.0])
    del layer.bias
    layer.bias = tg.zeros(2)  # not a parameter any more
    assert list(layer.state_dict()) == ["weight"]


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.MSELoss, nn.L1Loss, nn.HuberLoss]
)
def test_a_reduction_that_does_not_exist(loss: Callable[..., Any]) -> None:
    with pytest.raises(ArgumentError, match=r"Loss: reduction 'average' is not \"mean\", \"sum\" or \"none\""):
        loss(reduction="average")


# -- messages that say what to do -------------------------------------------------------------------------------------


def test_an_array_minus_a_tensor_in_place() -> None:
    p = nn.Parameter([1.0, 2.0])
    (p * p).sum().backward()
    with pytest.raises(TypeError, match=r"np\.subtract of a tensor, .* p\.data -= lr \* p\.grad\.data"):
        p.data -= 0.1 * p.grad
    assert p.data.tolist() == [1.0, 2.0]


def test_a_numpy_function_without_a_twin_is_named_in_full() -> None:
    with pytest.raises(TypeError, match=r"^np\.linalg\.qr: "):
        np.linalg.qr(tg.eye(2))
    with pytest.raises(TypeError, match=r"^np\.unwrap: "):
        np.unwrap(tg.ones(2))


def test_grad_of_several_elements_names_both_arguments() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GraphError, match=r"gradient= of backward\(\) or grad_outputs= of grad\(\)"):
        tg.autograd.grad(x * 2, x)


def test_a_recording_mode_without_brackets() -> None:
    with pytest.raises(TypeError, match=r"as a decorator write @no_grad\(\)"):

        @tg.no_grad
        def evaluate() -> None: ...


def test_a_function_that_is_half_written() -> None:
    class OnlyForward(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> tg.Tensor:
            return x * 2

    class ReturnsNumber(tg.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: tg.Tensor) -> Any:
            return x.item()

    x = tg.tensor([1.0], requires_grad=True)
    with pytest.raises(NotImplementedError, match=r"must define backward\(ctx, \*grads\)"):
        OnlyForward.apply(x).backward()
    with pytest.raises(NotImplementedError, match=r"must define forward\(ctx, \*args\)"):
        tg.autograd.Function.apply(x)
    with pytest.raises(ArgumentError, match=r"ReturnsNumber.forward must return Tensors or arrays, not float 1\.0"):
        ReturnsNumber.apply(x)


@pytest.mark.parametrize("number", [3, 3.0, np.float32(3), tg.tensor(3.0)])
def test_a_layer_called_with_a_number(number: Any) -> None:
    with pytest.raises(ShapeError, match=r"Linear\(in_features=2, out_features=2\): the input .* has no axis"):
        nn.Linear(2, 2)(number)


def test_saving_into_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"the folder to write into does not exist: '.*missing'"):
        tg.save(tmp_path / "missing" / "weights.npz", {})


def test_a_data_folder_without_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = Remote("images", 1, "0" * 64)
    monkeypatch.setenv("TINYGRAD_NN_DATA", str(tmp_path / "mistyped"))
    with pytest.raises(DataError, match=r"holds `mnist` \(it is .*mistyped now, where there is none\)"):
        download(file, [], tmp_path)
    monkeypatch.delenv("TINYGRAD_NN_DATA")
    with pytest.raises(DataError, match=r"holds `mnist`\.$"):
        download(file, [], tmp_path)


def test_two_arrays_as_out() -> None:
    with pytest.raises(TypeError, match=r"np\.divmod of a tensor"):
        np.divmod(tg.ones(2), 2, out=(np.ones(2), np.ones(2)))


# -- what docs/pytorch.md says of PyTorch ------------------------------------------------------------------------------


def test_weights_go_to_pytorch_and_back() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(2 * 4 * 4, 3))
    ours = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4, 3))
    x = np.random.default_rng(0).normal(size=(5, 1, 6, 6)).astype(np.float32)

    ours.load_state_dict(theirs.state_dict())
    np.testing.assert_allclose(ours(x).data, theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-6)

    for p in ours.parameters():
        p.data[...] *= 0.5
    assert not np.allclose(ours(x).data, theirs(torch.from_numpy(x)).detach().numpy(), atol=1e-3)  # it was copied
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in ours.state_dict().items()})
    np.testing.assert_allclose(ours(x).data, theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-4, atol=1e-6)

    ours.state_dict()["2.bias"][...] = 7
    assert not np.any(ours[2].bias.data == 7)


def test_what_means_something_else_than_in_pytorch() -> None:
    x = tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])
    assert x.transpose(0, 1).shape == (2, 3)
    assert x.swapaxes(0, 1).shape == x.permute(1, 0).shape == (3, 2)
    assert tg.std(x[0]).item() == pytest.approx(np.sqrt(2 / 3))
    assert tg.std(x[0], correction=1).item() == pytest.approx(1.0)
    assert x.max(axis=1).tolist() == [3.0, 9.0]
    assert x.size == 6


# -- NumPy's functions on tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (np.ones_like, [[1, 1], [1, 1]]),
        (np.zeros_like, [[0, 0], [0, 0]]),
        (lambda x: np.full_like(x, 7), [[7, 7], [7, 7]]),
        (np.ravel, [3, 1, 2, 5]),
        (lambda x: np.amax(x, axis=0), [3, 5]),
        (lambda x: np.amin(x, axis=1), [1, 2]),
        (np.trace, 8),
    ],
)
def test_numpy_functions_that_give_tensors(function: Callable[[Any], Any], values: Any) -> None:
    result = function(tg.tensor([[3.0, 1.0], [2.0, 5.0]], requires_grad=True))
    assert isinstance(result, tg.Tensor)
    assert result.dtype == np.float32
    assert result.tolist() == values


def test_numpy_functions_that_give_facts() -> None:
    x = tg.tensor([3.0, 0.0], requires_grad=True)
    assert np.isclose(x, [3.0, 1e-9]).tolist() == [True, True]
    assert np.count_nonzero(x) == 1
    assert np.empty_like(x).shape == (2,)


def test_what_is_no_matter_of_shapes_is_no_shape_error() -> None:
    with pytest.raises(ArgumentError, match="power: cannot take .* negative integer powers") as caught:
        tg.tensor([2]) ** -1
    assert not isinstance(caught.value, ShapeError)


def test_pytorchs_names_are_translated() -> None:
    with pytest.raises(AttributeError, match="'Tensor' object has no attribute 'unsqueeze'; here it is expand_dims"):
        tg.ones(2).unsqueeze(0)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = tg.ones(2).nonsense


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_translations_exist(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(tg.ones(2), name)
    here = str(caught.value).split("here it is ")[1].split("(")[0]
    if here.startswith("tinygrad_nn."):
        assert callable(getattr(tg, here.removeprefix("tinygrad_nn.")))
    else:
        assert hasattr(tg.ones(2), here)


def test_a_format_for_one_number() -> None:
    assert f"{tg.tensor(0.25):.1f} {tg.tensor([0.25]):.2f}" == "0.2 0.25"
    assert f"{tg.ones(2):>20}" == "tensor([1., 1.])".rjust(20)
    with pytest.raises(ArgumentError, match=r"'.3f' is for one number, and float32\(2,\) has 2 elements"):
        f"{tg.ones(2):.3f}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_pytorch_says_what_it_is_here(name: str) -> None:
    with pytest.raises(AttributeError, match="here it is tinygrad_nn") as caught:
        getattr(tg, name)
    assert attrgetter(str(caught.value).split("here it is tinygrad_nn.")[1])(tg) is not None


def test_dtypes_are_those_of_numpy() -> None:
    with pytest.raises(AttributeError, match="numpy.float32, or the string 'float32'"):
        _ = tg.float32
    with pytest.raises(AttributeError, match="has no attribute 'zeroes'$"):
        _ = tg.zeroes


def test_an_argument_that_is_no_array_names_the_operation() -> None:
    for call, name in (
        (lambda: tg.exp("a"), "exp"),
        (lambda: tg.add("a", 1.0), "add"),
        (lambda: F.cross_entropy(tg.ones((2, 3)), None), "cross_entropy"),
        (lambda: F.nll_loss(None, tg.ones(2)), "nll_loss"),
    ):
        with pytest.raises(DTypeError, match=f"^{name}: .* is neither a tensor nor an array nor a number"):
            call()


def test_modules_given_as_something_else() -> None:
    with pytest.raises(TypeError, match=r"modules are given one by one: Sequential\(\*modules\)"):
        nn.Sequential([nn.ReLU(), nn.Tanh()])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"for a function, use its module, such as ReLU\(\)"):
        nn.Sequential(nn.Linear(2, 2), F.relu)
    with pytest.raises(TypeError, match="an instance is wanted, not the class"):
        nn.Sequential(nn.ReLU)


def test_numbers_that_are_too_large() -> None:
    with pytest.raises(ArgumentError, match="multiply: cannot take .*int too large to convert to float"):
        tg.ones(2) * 10**400
    with (
        pytest.warns(RuntimeWarning, match="overflow encountered in cast"),
        pytest.warns(tg.autograd.AnomalyWarning, match="multiply .* made 1 inf"),
        tg.autograd.detect_anomaly(inf="warn"),
    ):
        assert (tg.tensor([1.0], requires_grad=True) * [1e300]).tolist() == [np.inf]  # a list becomes float32
    with pytest.warns(RuntimeWarning, match="overflow encountered in cast"), tg.autograd.detect_anomaly():
        assert tg.exp([-1e300]).tolist() == [0.0]


def test_sigmoid_of_integers() -> None:
    np.testing.assert_allclose(tg.sigmoid(np.array([-128, 127], np.int8)), [np.exp(-128.0), 1.0])
    np.testing.assert_allclose(tg.sigmoid(np.array([-4, 4])), 1 / (1 + np.exp([4.0, -4.0])))
    np.testing.assert_allclose([tg.sigmoid(True), tg.sigmoid(-1), tg.sigmoid(0.5)], 1 / (1 + np.exp([-1, 1, -0.5])))


def test_linear_of_numbers() -> None:
    for weight, bias in ((3.0, tg.ones(2)), (tg.ones((2, 3)), 1.0)):
        with pytest.raises(ShapeError, match="linear: x .* do not fit"):
            tg.linear(tg.ones(3), weight, bias)
