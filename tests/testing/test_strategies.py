"""The strategies draw what they promise, and shrink to what is small and round."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import find, given, settings, strategies as st

import tinygrad_nn as tg
from tinygrad_nn import testing
from tinygrad_nn.domains import Booleans, Integers, Invertible, Reals
from tinygrad_nn.errors import ArgumentError, MissingExtraError
from tinygrad_nn.registry import OPS
from tinygrad_nn.testing import domain_arrays, layouts

ROOT = Path(__file__).parent.parent.parent
DOMAINS = sorted({d for op in OPS.values() for d in op.domain}, key=str)


def lies_inside(domain: Any, a: np.ndarray[Any, Any]) -> bool:
    """The definition, a second time."""
    if isinstance(domain, Booleans):
        return a.dtype == bool
    if isinstance(domain, Integers):
        return a.dtype == np.int64 and bool(np.all((a >= domain.low) & (a < domain.high)))
    if isinstance(domain, Invertible):
        n = min(a.shape, default=0)
        return a.ndim < 2 or n == 0 or abs(np.linalg.det(a[:n, :n].astype(np.float64))) > 1
    wide = a.astype(np.float64).ravel()
    for x in wide:
        if not domain.low <= x <= domain.high or any(abs(x - p) < domain.margin * 0.999 for p in domain.avoid):
            return False
    if domain.distinct:
        return all(abs(x - y) >= domain.margin * 0.99 for i, x in enumerate(wide) for y in wide[:i])
    return True


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
@given(data=st.data())
def test_arrays_lie_inside_their_domain(domain: Any, data: Any) -> None:
    dtype = data.draw(testing.dtypes())
    a = data.draw(testing.arrays(domain, testing.shapes(max_dims=2, max_side=3, min_side=0), dtype))
    assert a.dtype == dtype or not isinstance(domain, Reals)
    assert a.ndim <= 2
    assert lies_inside(domain, a)


@given(testing.arguments("maximum", [(2, 3), (3,)]))
def test_distinct_values_differ_between_arguments(pair: Any) -> None:
    assert lies_inside(Reals(distinct=True), np.concatenate([np.ravel(a) for a in pair]))


def test_many_distinct_values_use_a_finer_grid() -> None:
    assert lies_inside(Reals(distinct=True), find(testing.arrays(Reals(distinct=True), 55), lambda a: True))
    with pytest.raises(ArgumentError, match="61 values that differ by 0.1 do not fit"):
        find(testing.arrays(Reals(distinct=True), 61), lambda a: True)


@given(testing.arrays("relu", kinks=True), testing.arrays("floor", kinks=True, dtype=testing.dtypes()))
def test_kinks_are_met_exactly(at_zero: Any, at_integers: Any) -> None:
    assert np.any(at_zero == 0)
    assert np.any(at_integers == np.round(at_integers))


@given(testing.arrays("max", shape=testing.shapes(min_dims=1), kinks=True))
def test_ties_are_drawn(a: Any) -> None:
    assert a.size == 1 or len(np.unique(a)) < a.size


def test_ties_are_drawn_between_arguments() -> None:
    a, b = find(testing.arguments("maximum", [(2,), (2,)], kinks=True), lambda ab: np.any(ab[0] == ab[1]))
    assert lies_inside(Reals(), np.array([a, b]))


@pytest.mark.parametrize("op", ["exp", "reciprocal", "log"])
def test_poles_and_smooth_operations_have_no_kink(op: str) -> None:
    with pytest.raises(ArgumentError, match=f"operation {op} declares no kink"):
        testing.arrays(op, kinks=True)


def test_a_domain_of_ones_own_can_have_kinks() -> None:
    assert find(testing.arrays(Reals(avoid=(2.0,)), kinks=True), lambda a: True) == 2.0
    with pytest.raises(ArgumentError, match="has no kink"):
        testing.arrays(Reals(), kinks=True)


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        (testing.arrays(), 0.0),
        (testing.arrays("log"), 1.0),
        (testing.arrays("relu"), 1.0),  # 0 is its kink
        (testing.arrays(Reals(-3, -1)), -1.0),
        (testing.arrays("max"), 0.0),
        (testing.arrays(Integers(0, 3)), 0),
        (testing.arrays(Booleans()), False),
    ],
)
def test_arrays_shrink_to_a_round_number(strategy: Any, wanted: Any) -> None:
    found = find(strategy, lambda a: True)
    assert found.shape == ()
    assert found == wanted


def test_arrays_shrink_to_fewer_and_shorter_axes() -> None:
    found = find(testing.arrays(), lambda a: np.sum(a > 1.5) >= 2, settings=settings(max_examples=2000))
    assert found.tolist() == [2.0, 2.0]


@given(testing.spd_matrices(condition=10.0), testing.spd_matrices(3, condition=1e10))
def test_spd_matrices(well: Any, ill: Any) -> None:
    for a, condition, slack in ((well, 10.0, 1e-9), (ill, 1e10, 1e-4)):
        assert np.array_equal(a, a.T)
        assert np.all(np.linalg.eigvalsh(a) > 0)
        assert np.linalg.cond(a) == pytest.approx(condition if len(a) > 1 else 1, rel=slack)


def test_spd_matrices_are_not_all_diagonal() -> None:
    assert find(testing.spd_matrices(2), lambda a: abs(a[0, 1]) > 0.1) is not None
    assert find(testing.spd_matrices(), lambda a: True).tolist() == [[1.0]]
    with pytest.raises(ArgumentError, match="at least 1"):
        testing.spd_matrices(condition=0.5)


@given(testing.broadcasting_pairs("divide", testing.dtypes()))
def test_broadcasting_pairs(pair: Any) -> None:
    a, b = pair
    np.broadcast_shapes(a.shape, b.shape)
    assert a.dtype == b.dtype
    assert lies_inside(testing.domain_of("divide", 1), b)


@pytest.mark.parametrize("kind", [None, "basic", "integers", "mask"])
@given(data=st.data())
def test_indices_index(kind: str | None, data: Any) -> None:
    shape = data.draw(testing.shapes(min_side=0))
    index = data.draw(testing.indices(shape, kind))
    x = np.arange(np.prod(shape)).reshape(shape)
    entries = index if isinstance(index, tuple) else (index,)
    advanced = [e.dtype.kind for e in entries if isinstance(e, np.ndarray)]
    assert set(advanced) <= {None: {"i", "b"}, "basic": set(), "integers": {"i"}, "mask": {"b"}}[kind]
    given_index = x[index]
    assert np.array_equal(tg.getitem(tg.tensor(x), index).data, given_index)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda i: isinstance(i, tuple) and any(e is None for e in i),
        lambda i: isinstance(i, tuple) and any(isinstance(e, slice) and (e.step or 1) < 0 for e in i),
        lambda i: isinstance(i, tuple) and any(isinstance(e, np.ndarray) and np.any(e < 0) for e in i),
        lambda i: isinstance(i, tuple)
        and any(isinstance(e, np.ndarray) and e.dtype == np.intp and len(np.unique(e)) < e.size for e in i),
        lambda i: isinstance(i, tuple)
        and {type(e) for e in i} >= {np.ndarray, slice},
        lambda i: isinstance(i, np.ndarray) and i.dtype == bool and i.ndim == 2,
    ],
)  # fmt: skip
def test_indices_of_every_form_occur(wanted: Any) -> None:
    find(testing.indices((3, 4)), wanted, settings=settings(max_examples=5000))


def test_unknown_kind_of_index() -> None:
    with pytest.raises(ArgumentError, match="'fancy' is none of basic, integers, mask"):
        testing.indices((2,), "fancy")


def test_every_layout_is_drawn_and_keeps_the_values() -> None:
    met: Counter[str] = Counter()

    @settings(max_examples=200)
    @given(st.data())
    def run(data: Any) -> None:
        a = data.draw(testing.views(testing.arrays("log", shape=(2, 3))))
        assert lies_inside(testing.domain_of("log"), a)
        met.update(
            name
            for name, here in {
                "contiguous": a.flags.c_contiguous and a.flags.aligned,
                "transposed": a.flags.f_contiguous,
                "backwards": a.strides[0] < 0,
                "strided": a.strides == (96, 16),
                "unaligned": not a.flags.aligned,
            }.items()
            if here
        )

    run()
    assert set(met) == {"contiguous", "transposed", "backwards", "strided", "unaligned"}


@pytest.mark.parametrize("layout", layouts.LAYOUTS.values())
@given(a=testing.arrays(shape=testing.shapes(min_side=0), dtype=testing.dtypes()))
def test_layouts_keep_values(layout: Any, a: Any) -> None:
    assert np.array_equal(layout(a), a)
    assert layout(a).dtype == a.dtype


@given(testing.broadcast_views(testing.arrays(shape=(2, 3))))
def test_broadcast_views_have_no_strides(a: Any) -> None:
    assert a.strides == (0, 0)
    assert not a.flags.writeable


@given(testing.tensors(testing.views(testing.arrays("log"))), testing.tensors(requires_grad=False))
def test_tensors(t: Any, constant: Any) -> None:
    assert t.requires_grad and t.is_leaf
    assert not constant.requires_grad


def test_tensors_of_integers_require_no_gradient() -> None:
    assert find(testing.tensors(testing.arrays(Integers())), lambda t: True).requires_grad is False


@pytest.mark.parametrize("op", ["exp", tg.exp])
def test_operations_go_by_name_or_function(op: Any) -> None:
    assert testing.domain_of(op) == Reals()
    assert find(testing.arrays(op), lambda a: True) == 0


@pytest.mark.parametrize("op", ["no_such", np.fft.fft, 3])
def test_unknown_operations(op: Any) -> None:
    with pytest.raises(ArgumentError, match="is no registered operation"):
        testing.domain_of(op)


def test_an_empty_domain_is_refused() -> None:
    with pytest.raises(ArgumentError, match="is empty"):
        testing.arrays(Reals(-0.05, 0.05, avoid=(0.0,)))


def test_dtypes_of_reals_are_floating() -> None:
    with pytest.raises(ArgumentError, match="int64: reals are drawn as"):
        testing.arrays(dtype=np.int64)


def test_pieces_of_a_domain() -> None:
    assert domain_arrays.intervals(Reals(-1, 2, avoid=(0.0,))) == [(0.1, 2), (-1, -0.1)]
    assert domain_arrays.intervals(Reals(0, 2)) == [(0, 2)]


@pytest.mark.parametrize("name", ["arrays", "check_gradients", "programs"])
def test_without_hypothesis_the_error_names_the_extra(name: str) -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import tinygrad_nn as tg, numpy as np\n"
        "tg.testing.assert_close(np.ones(2), np.ones(2))\n"
        "tg.testing.assert_gradients(tg.exp, np.ones(2))\n"
        f"try: tg.testing.{name}\n"
        "except tg.errors.MissingExtraError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == f"tg.testing.{name} needs hypothesis: pip install 'tinygrad_nn[test]'\n"
    assert issubclass(MissingExtraError, ImportError)


def test_names() -> None:
    assert sorted(testing.__all__, key=str.lower) == testing.__all__
    for name in testing.__all__:
        assert getattr(testing, name).__name__ == name
    assert set(testing.__all__) == set(dir(testing))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        testing.nothing  # noqa: B018


@settings(max_examples=200)
@given(testing.arrays("max", shape=(3,)))
def test_distinct_values_are_not_tiny(x: Any) -> None:
    """A number near 1e-259 is lost beside any other result: a gradient check can say nothing of it."""
    assert not ((x != 0) & (abs(x) < 2.0**-12)).any()
