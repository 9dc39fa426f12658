"""What every operation must keep to, as checks of one operation on one set of inputs.

`test_ops_contract.py` runs them over the registry; `test_checkers.py` plants mistakes and demands that these same
functions notice. A check raises AssertionError, and nothing else.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tinygrad_nn as tg
from tinygrad_nn.domains import Case, Integers, Invertible, Reals
from tinygrad_nn.registry import Op
from tinygrad_nn.tensor import Tensor

from . import numeric, strategies

Array = np.ndarray[Any, Any]
Check = Callable[["Trial"], None]


@dataclass
class Trial:
    """One operation, the arrays and parameters to call it with, and random (co)tangents for them."""

    op: Op
    args: tuple[Array, ...]
    params: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __call__(self, *args: Any) -> Any:
        return self.op.call(*args, **self.params)

    def value(self, *args: Any) -> Array:
        """The result on plain arrays, as an array."""
        return np.asarray(self(*args))

    @functools.cached_property
    def moving(self) -> tuple[int, ...]:
        """The arguments that have a gradient."""
        if not self.op.vjps:
            return ()
        return tuple(i for i, a in enumerate(self.args) if a.dtype.kind == "f")

    @functools.cached_property
    def tangents(self) -> tuple[Array | None, ...]:
        rng = np.random.default_rng([self.seed, 1])
        drawn = [rng.uniform(0.3, 1.0, a.shape) * rng.choice([-1.0, 1.0], a.shape) for a in self.args]
        return tuple(v if i in self.moving else None for i, v in enumerate(drawn))

    @functools.cached_property
    def cotangent(self) -> Array:
        rng = np.random.default_rng([self.seed, 2])
        shape = self.value(*self.args).shape
        return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))

    def __str__(self) -> str:
        shapes = ", ".join(f"{a.dtype}{a.shape}" for a in self.args)
        return f"{self.op.name}({shapes}, {self.params})"


# -- the engine's answers ----------------------------------------------------------------------------------------------


def leaves(trial: Trial, args: Sequence[Array]) -> list[Tensor]:
    return [Tensor(a, requires_grad=i in trial.moving) for i, a in enumerate(args)]


def vjp(trial: Trial, args: Sequence[Array], w: Array) -> list[Array]:
    """Jᵀw for each moving argument."""
    inputs = leaves(trial, args)
    trial(*inputs).backward(w)
    return [x.grad.data if x.grad is not None else np.zeros(x.shape, x.dtype) for x in inputs if x.requires_grad]


def jvp(trial: Trial, args: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """Jv along the tangents that are not None."""
    moved = [i for i, t in enumerate(tangents) if t is not None]
    fn = _function_of(trial, args, moved)
    return np.asarray(tg.func.jvp(fn, [args[i] for i in moved], [tangents[i] for i in moved])[1].data)


def _function_of(trial: Trial, args: Sequence[Any], moved: Sequence[int]) -> Callable[..., Tensor]:
    """The operation as a function of the arguments `moved`, the others fixed."""

    def fn(*xs: Any) -> Any:
        full = list(args)
        for i, x in zip(moved, xs, strict=True):
            full[i] = x
        return trial(*full)

    return fn


def gradient_tensors(trial: Trial, args: Sequence[Array], w: Array) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs, and Jᵀw for each moving one, recorded so that it can be differentiated again."""
    inputs = leaves(trial, args)
    trial(*inputs).backward(w, create_graph=True)
    moving = [x for x in inputs if x.requires_grad]
    grads = [x.grad if x.grad is not None else Tensor(np.zeros(x.shape, x.dtype)) for x in moving]
    for x in moving:
        x.grad = None
    return inputs, grads


# -- comparing ---------------------------------------------------------------------------------------------------------


def assert_close(given: Any, wanted: Any, what: str, error: Any = 0.0, rtol: float = 1e-7, atol: float = 1e-9) -> None:
    """Equal shapes; finite; within `rtol` of the largest number around, plus the error of `wanted`."""
    given, wanted = np.asarray(given), np.asarray(wanted)
    assert given.shape == wanted.shape, f"{what}: shape {given.shape}, expected {wanted.shape}"
    assert np.all(np.isfinite(given)), f"{what}: not finite: {given}"
    if wanted.dtype.kind in "biu":
        assert np.array_equal(given, wanted), f"{what}:\ngiven\n{given}\nexpected\n{wanted}"
        return
    scale = max(np.max(np.abs(wanted), initial=0.0), np.max(np.abs(given), initial=0.0))
    unsure = float(np.max(error, initial=0.0))
    assert unsure <= 1e-5 * (scale + 1), f"{what}: differences do not settle (error {unsure}): not smooth here?"
    off = np.max(np.abs(given - wanted) - 10 * error, initial=0.0)
    assert off <= rtol * scale + atol, f"{what}: off by {off} at scale {scale}\ngiven\n{given}\nexpected\n{wanted}"


def refusals_are_failures(check: Check) -> Check:
    """An operation that raises inside its own domain fails the check."""

    @functools.wraps(check)
    def checked(trial: Trial) -> None:
        try:
            with np.errstate(all="raise", under="ignore"):
                check(trial)
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"{check.__name__}: {trial} raised {type(error).__name__}: {error}") from error

    return checked


# -- the checks --------------------------------------------------------------------------------------------------------


@refusals_are_failures
def check_finite(trial: Trial) -> None:
    """Inside the declared domain the value and its derivatives are finite."""
    y = trial.value(*trial.args)
    if y.dtype.kind == "f":
        assert np.all(np.isfinite(y)), f"{trial}: value {y}"
    if trial.moving:
        for g in vjp(trial, trial.args, trial.cotangent):
            assert np.all(np.isfinite(g)), f"{trial}: gradient {g}"
        assert np.all(np.isfinite(jvp(trial, trial.args, trial.tangents))), f"{trial}: tangent"


@refusals_are_failures
def check_transposes(trial: Trial) -> None:
    """<w, Jv> = <Jᵀw, v>, to rounding: the two modes are the same linear map."""
    if not trial.moving:
        return
    w, tangents = trial.cotangent, [v for v in trial.tangents if v is not None]
    pushed = w * jvp(trial, trial.args, trial.tangents)
    pulled = [g * v for g, v in zip(vjp(trial, trial.args, w), tangents, strict=True)]
    scale = np.sum(np.abs(pushed)) + sum(np.sum(np.abs(p)) for p in pulled)
    gap = abs(np.sum(pushed) - sum(np.sum(p) for p in pulled))
    assert gap <= 1e-13 * scale + 1e-14, f"{trial}: <w, Jv> and <Jᵀw, v> differ by {gap}"


@refusals_are_failures
def check_vjp(trial: Trial) -> None:
    """Jᵀw against extrapolated differences of <w, f>, element by element, alone and with all arguments tracked."""
    grads = vjp(trial, trial.args, trial.cotangent) if trial.moving else []
    for i, given in zip(trial.moving, grads, strict=True):
        wanted, error = numeric.gradient(trial.value, trial.args, i, trial.cotangent)
        assert_close(given, wanted, f"{trial}: vjp, argument {i}", error)
    for i in trial.moving if len(trial.moving) > 1 else ():
        alone = [Tensor(a, requires_grad=i == j) for j, a in enumerate(trial.args)]
        trial(*alone).backward(trial.cotangent)
        together = grads[trial.moving.index(i)]
        only = np.zeros_like(together) if alone[i].grad is None else alone[i].grad.data
        assert_close(only, together, f"{trial}: vjp, argument {i} tracked alone", rtol=1e-13, atol=1e-13)


@refusals_are_failures
def check_jvp(trial: Trial) -> None:
    """Jv against extrapolated differences along v, for each argument alone and all together."""
    directions = [trial.tangents]
    if len(trial.moving) > 1:
        directions += [tuple(v if j == i else None for j, v in enumerate(trial.tangents)) for i in trial.moving]
    for direction in directions if trial.moving else ():
        given = jvp(trial, trial.args, direction)
        wanted, error = numeric.directional(trial.value, trial.args, direction)
        assert_close(given, wanted, f"{trial}: jvp", error)


@refusals_are_failures
def check_analytic(trial: Trial) -> None:
    """Where declared analytic: takes complex input, agrees with itself on the real axis, and the complex step gives Jv.

    The complex step is compared both with differences, which tests the declaration, and with the jvp to rounding.
    """
    if not (trial.op.analytic and trial.moving) or "dtype" in trial.params:  # a real dtype asked for is real
        return
    lifted = [a.astype(complex) if i in trial.moving else a for i, a in enumerate(trial.args)]
    assert_close(trial.value(*lifted), trial.value(*trial.args), f"{trial}: complex input", rtol=1e-13, atol=1e-13)
    step = numeric.complex_step(trial.value, trial.args, trial.tangents)
    wanted, error = numeric.directional(trial.value, trial.args, trial.tangents)
    assert_close(step, wanted, f"{trial}: declared analytic, complex step", error)
    assert_close(jvp(trial, trial.args, trial.tangents), step, f"{trial}: jvp, complex step", rtol=1e-11, atol=1e-13)


@refusals_are_failures
def check_second_order(trial: Trial) -> None:
    """d(Jᵀw)[v] three ways (reverse over reverse, forward over reverse, reverse over forward) against differences."""
    if not trial.moving:
        return
    w, tangents = trial.cotangent, trial.tangents

    def first_order(*args: Array) -> Array:
        return np.concatenate([np.ravel(g) for g in vjp(trial, args, w)])

    wanted, error = numeric.directional(first_order, trial.args, tangents)

    inputs, grads = gradient_tensors(trial, trial.args, w)
    moving = [v for v in tangents if v is not None]
    for g, v in zip(grads, moving, strict=True):
        if g.requires_grad:
            g.backward(v, retain_graph=True)
    assert_close(_flat(_gradients(inputs)), wanted, f"{trial}: reverse over reverse", error)

    fn = _function_of(trial, trial.args, trial.moving)
    primals = [trial.args[i] for i in trial.moving]
    over_reverse = [
        tg.func.jvp(lambda *xs, i=i: tg.func.vjp(fn, *xs)[1](w)[i], primals, moving)[1].data
        for i in range(len(primals))
    ]
    assert_close(_flat(over_reverse), wanted, f"{trial}: forward over reverse", error)

    pull = tg.func.vjp(lambda *xs: tg.func.jvp(fn, xs, moving)[1], *primals)[1]
    assert_close(_flat([g.data for g in pull(w)]), wanted, f"{trial}: reverse over forward", error)


@refusals_are_failures
def check_cotangent_is_differentiated(trial: Trial) -> None:
    """Jᵀw is recorded as a function of w, too: its transpose in w is Jv (`jvp` made of two `vjp`s)."""
    if not trial.moving:
        return
    w = Tensor(trial.cotangent, requires_grad=True)
    inputs = leaves(trial, trial.args)
    trial(*inputs).backward(w, create_graph=True)
    grads = [x.grad for x in inputs if x.requires_grad and x.grad is not None]
    used = [v for x, v in zip(inputs, trial.tangents, strict=True) if x.requires_grad and x.grad is not None]
    total = np.zeros(w.shape)
    for g, v in zip(grads, used, strict=True):
        w.grad = None
        if g.requires_grad:
            g.backward(v, retain_graph=True)
            total += 0.0 if w.grad is None else w.grad.data
    wanted = jvp(trial, trial.args, trial.tangents)
    assert_close(total, wanted, f"{trial}: derivative of the vjp by its cotangent", rtol=1e-12, atol=1e-13)


@refusals_are_failures
def check_dtypes(trial: Trial) -> None:
    """float16, float32 and float64 stay what they are, in the value and in each gradient."""
    for dtype in (np.float16, np.float32, np.float64):
        args = [a.astype(dtype) if a.dtype.kind == "f" else a for a in trial.args]
        with np.errstate(all="ignore"):  # float16 overflows early, and infinities then meet
            y = trial(*leaves(trial, args))
            plain = trial.value(*args)
            assert y.dtype == plain.dtype, f"{trial}: {y.dtype} from tensors, {plain.dtype} from arrays"
            assert y.shape == plain.shape, f"{trial}: {y.shape} from tensors, {plain.shape} from arrays"
            if not trial.moving:
                continue
            if "dtype" not in trial.params:
                assert y.dtype == dtype, f"{trial}: {np.dtype(dtype)} became {y.dtype}"
            inputs = leaves(trial, args)
            out = trial(*inputs)
            out.backward(trial.cotangent.astype(out.dtype))
            tangents = [None if t is None else t.astype(dtype) for t in trial.tangents]
            pushed = jvp(trial, args, tangents)
        assert pushed.dtype == y.dtype, f"{trial}: tangent {pushed.dtype} of a result {y.dtype}"
        assert pushed.shape == y.shape, f"{trial}: tangent {pushed.shape} of a result {y.shape}"
        for x in inputs:
            if x.requires_grad and x.grad is not None:
                assert x.grad.dtype == x.dtype, f"{trial}: gradient {x.grad.dtype} of an input {x.dtype}"
                assert x.grad.shape == x.shape, f"{trial}: gradient {x.grad.shape} of an input {x.shape}"


@refusals_are_failures
def check_nothing_modified(trial: Trial) -> None:
    """Inputs, result, cotangent and parameters are as before after a forward, a backward and a forward walk."""
    args = [a.copy() for a in trial.args]
    w = trial.cotangent.copy()
    parameters = {k: v.copy() for k, v in trial.params.items() if isinstance(v, np.ndarray)}

    def unchanged(when: str) -> None:
        for now, before in zip(args, trial.args, strict=True):
            assert np.array_equal(now, before), f"{trial}: {when} changed an input"
        for name, before in parameters.items():
            assert np.array_equal(trial.params[name], before), f"{trial}: {when} changed parameter {name}"

    first = np.array(trial.value(*args))
    unchanged("the operation on arrays")
    for writeable in (True, False):  # read-only arrays: a write that is undone again fails, too
        for a in (*args, w):
            a.flags.writeable = writeable
        inputs = leaves(trial, args)
        y = trial(*inputs)
        assert np.array_equal(np.asarray(y.data), first), f"{trial}: another value from tensors"
        if trial.moving:
            before = np.array(y.data)
            y.backward(w, retain_graph=True)
            assert np.array_equal(w, trial.cotangent), f"{trial}: backward changed the cotangent"
            unchanged("backward")
            y.backward(w, retain_graph=True)
            jvp(trial, args, trial.tangents)
            assert np.array_equal(np.asarray(y.data), before), f"{trial}: backward changed the result"
        unchanged("the walks")


@refusals_are_failures
def check_no_aliases(trial: Trial) -> None:
    """Results share memory with inputs only in views (linear, as NumPy's own); gradients share with nothing."""
    args = [a.copy() for a in trial.args]
    inputs = leaves(trial, args)
    y = trial(*inputs)
    if not _is_view(trial):
        for a in args:
            assert not np.shares_memory(y._data, a), f"{trial}: the result is its input"
    if not trial.moving:
        return
    saved = [s for s in (y._node.saved or ()) if isinstance(s, np.ndarray)]
    w = trial.cotangent.copy()
    y.backward(w, retain_graph=True)
    grads = [x.grad.data for x in inputs if x.requires_grad and x.grad is not None]
    for i, g in enumerate(grads):
        for other in (*args, *saved, y.data, w, *grads[:i]):
            assert not np.shares_memory(g, other), f"{trial}: gradient {i} shares memory"
        assert g.flags.writeable, f"{trial}: gradient {i} is read-only"
    for i in trial.moving:
        pulled = trial.op.vjps[i](w, *y._node.saved, **y._node.params)
        if isinstance(pulled, np.ndarray):
            for kept in saved:
                assert not np.shares_memory(pulled, kept), f"{trial}: rule {i} hands out a saved array"


def _is_view(trial: Trial) -> bool:
    """Whether this is one of the operations that NumPy, too, does by a view (or that may have nothing to do)."""
    return trial.op.kind == "linear" and trial.op.name in VIEWS


VIEWS = {"reshape", "transpose", "broadcast_to", "getitem", "flip", "astype", "sum_to"}


@refusals_are_failures
def check_layouts(trial: Trial) -> None:
    """Strided, negative-stride, transposed and unaligned inputs give what contiguous ones give."""
    wanted = trial.value(*trial.args)
    slopes = vjp(trial, trial.args, trial.cotangent) if trial.moving else []
    for name, layout in strategies.LAYOUTS.items():
        args = [layout(a) for a in trial.args]
        assert_close(trial.value(*args), wanted, f"{trial}: {name}", rtol=1e-12)
        if trial.moving:
            grads = vjp(trial, args, layout(trial.cotangent))
            for given, expected in zip(grads, slopes, strict=True):
                assert_close(given, expected, f"{trial}: gradient, {name}", rtol=1e-12)
            tangents = [None if t is None else layout(t) for t in trial.tangents]
            straight = jvp(trial, trial.args, trial.tangents)
            assert_close(jvp(trial, args, tangents), straight, f"{trial}: tangent, {name}", rtol=1e-12)


@refusals_are_failures
def check_broadcast_views(trial: Trial) -> None:
    """Stride-0 inputs give what their copies give. Not where values must differ: repeating would tie them."""
    domains = [strategies.domain_of(trial.op.domain, i) for i in range(len(trial.args))]
    if any(isinstance(d, Invertible) or (isinstance(d, Reals) and d.distinct) for d in domains):
        return
    views = [strategies.repeated(a) for a in trial.args]
    copies = [a.copy() for a in views]
    assert_close(trial.value(*views), trial.value(*copies), f"{trial}: broadcast view", rtol=1e-12)
    if trial.moving:
        w = strategies.repeated(trial.cotangent)
        for given, wanted in zip(vjp(trial, views, w), vjp(trial, copies, w.copy()), strict=True):
            assert_close(given, wanted, f"{trial}: gradient, broadcast view", rtol=1e-12)


CHECKS: tuple[Check, ...] = (
    check_finite,
    check_transposes,
    check_vjp,
    check_jvp,
    check_analytic,
    check_second_order,
    check_cotangent_is_differentiated,
    check_dtypes,
    check_nothing_modified,
    check_no_aliases,
    check_layouts,
    check_broadcast_views,
)
GRADIENT_CHECKS: tuple[Check, ...] = (check_transposes, check_vjp, check_jvp)


def _flat(arrays: Sequence[Any]) -> Array:
    return np.concatenate([np.ravel(a) for a in arrays])


def _gradients(inputs: Sequence[Tensor]) -> list[Array]:
    return [np.zeros(x.shape) if x.grad is None else x.grad.data for x in inputs if x.requires_grad]


# -- what to call an operation with ------------------------------------------------------------------------------------

ELEMENTWISE_SHAPES: dict[int, tuple[tuple[tuple[int, ...], ...], ...]] = {
    1: (((),), ((3,),), ((2, 3),), ((0,),), ((2, 0, 3),)),
    2: (((2, 3), (2, 3)), ((2, 3), (3,)), ((), (2, 3)), ((2, 1), (1, 3)), ((), ()), ((0, 3), (3,)), ((1,), (0,))),
    3: (((2, 3), (2, 3), (2, 3)), ((2, 3), (3,), ()), ((), (), ()), ((1, 3), (2, 1), (1,)), ((0,), (), (1,))),
}
BITWISE = ("bitwise_and", "bitwise_or", "bitwise_xor", "invert", "bitwise_left_shift", "bitwise_right_shift")


def arity(op: Op) -> int:
    """The number of array arguments of an operation that declares no cases."""
    return len(op.vjps) if op.kind == "elementwise" else op.twin.nin  # type: ignore[union-attr]


def domains(op: Op) -> Sequence[Any]:
    """The declared domain; integers for operations on bits, which have no other meaning."""
    return (Integers(0, 8),) if op.name in BITWISE else op.domain


def cases(op: Op) -> tuple[Case, ...]:
    """The declared cases; for elementwise operations without any, shapes that broadcast in every way."""
    return op.cases or tuple(Case(shapes) for shapes in ELEMENTWISE_SHAPES[arity(op)])


def trials(op: Op, repeats: int = 1) -> list[Trial]:
    """The declared cases of an operation with seeded inputs."""
    made = []
    for k in range(repeats):
        for n, case in enumerate(cases(op)):
            seed = zlib.crc32(f"{op.name} {n} {k}".encode())
            args = strategies.sample(domains(op), case.shapes, np.random.default_rng(seed))
            made.append(Trial(op, args, case.params, seed))
    return made


def is_flat(op: Op, i: int) -> bool:
    """Whether the derivative by argument i is 0 wherever there is one."""
    return op.ties == "slope 0 everywhere" or (op.name, i) == ("copysign", 1)
