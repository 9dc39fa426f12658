"""The public surface: what is exported is documented and typed, and the registry and the surface match one to one."""

from __future__ import annotations

import ast
import inspect
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tinygrad_nn as tg
from tinygrad_nn.elsewhere import ATTRIBUTES
from tinygrad_nn.methods import METHODS
from tinygrad_nn.registry import OPS
from tinygrad_nn.tensor import Tensor

ROOT = Path(__file__).parent.parent
REGISTRY = dict(OPS)  # as imported: other tests may register operations of their own

# Operations that no public function is named after: parts of another one, mostly the walk back of it, recorded.
INTERNAL = {
    "cofactor": "det",
    "det_sign": "slogdet",
    "logabsdet": "slogdet",
    "avg_pool2d_input": "avg_pool2d",
    "conv2d_bias": "conv2d",
    "conv2d_input": "conv2d",
    "conv2d_weight": "conv2d",
    "embedding_moving": "embedding",
    "embedding_weight": "embedding",
    "matvec": "matmul",
    "max_pool2d_input": "max_pool2d",
    "max_pool2d_position": "max_pool2d",
    "max_pool2d_read": "max_pool2d",
    "scatter_add": "getitem",
    "squared_error": "mse_loss",
}
# Shown by the example of another name.
SHOWN_WITH = {
    "tg.autograd.Anomaly": "tg.autograd.detect_anomaly",
    "tg.autograd.AnomalyError": "tg.autograd.detect_anomaly",
    "tg.autograd.AnomalyWarning": "tg.autograd.detect_anomaly",
    "tg.autograd.FunctionContext": "tg.autograd.Function",
    "tg.autograd.KeptMemory": "tg.autograd.memory",
    "tg.autograd.Kink": "tg.autograd.kinks",
    "tg.autograd.KinkError": "tg.autograd.kinks",
    "tg.autograd.MemoryReport": "tg.autograd.memory",
    "tg.autograd.GradcheckError": "tg.autograd.gradcheck",
    "tg.autograd.GradcheckResult": "tg.autograd.gradcheck",
    "tg.linalg.SlogdetResult": "tg.linalg.slogdet",
    "tg.load": "tg.save",
    "tg.optim.Optimizer": "tg.optim.SGD",
    "tg.testing.ManualGradientReport": "tg.testing.compare_manual_gradients",
    "tg.testing.StepSizeStudy": "tg.testing.step_size_study",
    "tg.testing.TaylorResult": "tg.testing.taylor_test",
}

NAMESPACES = {
    "tg": tg,
    "tg.autograd": tg.autograd,
    "tg.func": tg.func,
    "tg.data": tg.data,
    "tg.linalg": tg.linalg,
    "tg.nn": tg.nn,
    "tg.nn.functional": tg.nn.functional,
    "tg.nn.init": tg.nn.init,
    "tg.optim": tg.optim,
    "tg.random": tg.random,
    "tg.testing": tg.testing,
}


def public(module: ModuleType) -> dict[str, Any]:
    """The functions and classes that a module offers: those in its `__all__`, or else those that it defines.

    The package itself defines nothing: it offers all that it imports.
    """
    listed = list(vars(module)) if module is tg else getattr(module, "__all__", None)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    found = {name: getattr(module, name) for name in listed or own if not name.startswith("_")}
    return {name: value for name, value in found.items() if callable(value) and not isinstance(value, ModuleType)}


PUBLIC = {f"{where}.{name}": value for where, module in NAMESPACES.items() for name, value in public(module).items()}
MADE = {id(op.call): op for op in REGISTRY.values()}  # public functions that a declaration made


def test_the_package_holds_public_names_only() -> None:
    """Imports and other names for the same thing; nothing is defined in `__init__`."""
    tree = ast.parse((ROOT / "tinygrad_nn" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body[1:]:  # after the docstring
        plain = isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Constant | ast.List)
        assert plain or isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(node)


def test_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert tg.__version__ == project["version"]


@pytest.mark.parametrize("name", PUBLIC)
def test_documented_with_an_example(name: str) -> None:
    """Functions made by a declaration show its formula; every other one shows an example, which runs as a doctest."""
    assert inspect.getdoc(PUBLIC[name])
    value = PUBLIC[SHOWN_WITH.get(name, name)]
    text = inspect.getdoc(value) or ""
    op = MADE.get(id(value))
    assert ">>> " in text or (op is not None and op.formula in text), f"{name} needs an example: {text!r}"


@pytest.mark.parametrize("name", [name for name in dir(Tensor) if not name.startswith("_") and name not in ATTRIBUTES])
def test_tensor_attributes_are_documented(name: str) -> None:
    assert inspect.getdoc(getattr(Tensor, name))


def offered(name: str) -> bool:
    return any(f"{where}.{name}" in PUBLIC for where in ("tg", "tg.linalg", "tg.nn.functional"))


@pytest.mark.parametrize("name", REGISTRY)
def test_every_operation_has_a_public_function(name: str) -> None:
    assert offered(name) != (name in INTERNAL), f"{name}: name it in tinygrad_nn/__init__.py, or in INTERNAL"


def test_exceptions_are_no_older_than_the_code() -> None:
    assert set(INTERNAL) <= set(REGISTRY)
    assert all(offered(name) for name in INTERNAL.values())
    assert set(SHOWN_WITH) | set(SHOWN_WITH.values()) <= set(PUBLIC)


@pytest.mark.parametrize("name", [name for name, value in PUBLIC.items() if id(value) in MADE])
def test_a_declared_function_keeps_its_name(name: str) -> None:
    """One that a declaration made is public under the declared name; a further name is an alias of it."""
    op = MADE[id(PUBLIC[name])]
    where = name.rsplit(".", 1)[0]
    assert PUBLIC.get(f"{where}.{op.name}", PUBLIC.get(f"tg.{op.name}")) is op.call


@pytest.mark.parametrize("name", REGISTRY)
def test_every_declaration_tells_people_what_it_is(name: str) -> None:
    assert REGISTRY[name].formula


def stubs() -> dict[str, ast.FunctionDef]:
    """The methods that `tensor.py` shows to type checkers only."""
    tree = ast.parse((ROOT / "tinygrad_nn" / "tensor.py").read_text(encoding="utf-8"))
    (tensor,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
    (block,) = (node for node in tensor.body if isinstance(node, ast.If))
    return {node.name: node for node in block.body if isinstance(node, ast.FunctionDef)}


def test_typed_methods_are_the_bound_ones() -> None:
    assert set(stubs()) == set(METHODS)


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("__")])
def test_typed_methods_have_the_real_parameters(name: str) -> None:
    method, stub = METHODS[name], stubs()[name]
    if isinstance(method, property):
        assert [ast.unparse(d) for d in stub.decorator_list] == ["property"]
        return
    parameters = list(inspect.signature(method).parameters.values())[1:]  # after the tensor itself
    if id(method) in MADE or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        assert not stub.args.args[1:]  # made by a declaration: takes tensors; or takes any number of lengths
        return
    assert [p.name for p in parameters] == [argument.arg for argument in stub.args.args[1:]]
    given = [ast.literal_eval(default) for default in stub.args.defaults]
    assert [p.default for p in parameters if p.default is not p.empty] == given
