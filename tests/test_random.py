"""Random numbers: settled by the seed or by one's own generator, and distributed as they should be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_nn as tg
from tinygrad_nn import random
from tinygrad_nn.errors import ArgumentError, DTypeError, ShapeError

DRAWS: dict[str, Any] = {
    "rand": lambda **k: random.rand(4, 5, **k),
    "randn": lambda **k: random.randn((4, 5), **k),
    "uniform": lambda **k: random.uniform(-1.0, 2.0, size=(4, 5), **k),
    "normal": lambda **k: random.normal(3.0, 2.0, size=(4, 5), **k),
    "randint": lambda **k: random.randint(0, 1000, size=(4, 5), **k),
    "permutation": lambda **k: random.permutation(20, **k),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_seed_settles_the_numbers(name: str) -> None:
    draw = DRAWS[name]
    assert random.manual_seed(7) is random.default_generator()
    a, b = draw(), draw()
    random.manual_seed(7)
    np.testing.assert_array_equal(draw().data, a.data)
    assert (a.data != b.data).any()
    random.manual_seed(8)
    assert (draw().data != a.data).any()


@pytest.mark.parametrize("name", DRAWS)
def test_ones_own_generator_leaves_the_default_one_alone(name: str) -> None:
    state = random.default_generator().bit_generator.state
    a = DRAWS[name](generator=np.random.default_rng(1))
    b = DRAWS[name](generator=np.random.default_rng(1))
    np.testing.assert_array_equal(a.data, b.data)
    assert random.default_generator().bit_generator.state == state


@pytest.mark.parametrize("name", ["rand", "randn", "uniform", "normal"])
@pytest.mark.parametrize("dtype", [None, "float16", "float32", "float64"])
def test_dtypes(name: str, dtype: str | None) -> None:
    t = DRAWS[name](dtype=dtype, requires_grad=True)
    assert t.dtype == (dtype or "float32") and t.shape == (4, 5) and t.requires_grad
    assert np.isfinite(t.data).all()


def test_distributions() -> None:
    rng = np.random.default_rng(0)
    n = 100_000
    for t, mean, deviation in [
        (random.rand(n, generator=rng), 0.5, 12**-0.5),
        (random.randn(n, generator=rng), 0.0, 1.0),
        (random.uniform(-1.0, 3.0, n, generator=rng), 1.0, 4 * 12**-0.5),
        (random.normal(5.0, 0.5, n, generator=rng), 5.0, 0.5),
        (random.randint(10, generator=rng, size=n), 4.5, (99 / 12) ** 0.5),
    ]:
        assert abs(t.data.mean() - mean) < 0.02 * max(1, deviation)
        assert abs(t.data.std() / deviation - 1) < 0.01
    x = random.rand(n, generator=rng).data
    assert x.min() >= 0 and x.max() < 1


def test_shapes() -> None:
    assert [random.rand(*s).shape for s in [(), (2,), (2, 3), ((2, 3),), ([4],), ((),)]] == [
        (),
        (2,),
        (2, 3),
        (2, 3),
        (4,),
        (),
    ]
    assert random.normal().shape == random.uniform().shape == random.randint(5).shape == ()


def test_randint_and_permutation() -> None:
    t = random.randint(3, 5, size=1000, dtype="int8")
    assert set(t.tolist()) == {3, 4} and t.dtype == np.int8
    rows = tg.asarray([[1, 2], [3, 4], [5, 6]])
    mixed = random.permutation(rows)
    assert sorted(mixed.tolist()) == [[1, 2], [3, 4], [5, 6]]
    assert rows.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert sorted(random.permutation(5).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: random.rand(2, dtype="int64"), DTypeError, "rand: dtype int64 is not floating.*randint"),
        (lambda: random.randn(-2), ShapeError, r"randn: cannot take \(tuple \(-2,\)\)"),
        (lambda: random.rand("ab"), DTypeError, "rand: cannot take"),
        (lambda: random.normal(0.0, -1.0), ArgumentError, "normal: .*deviation must not be negative: scale=-1.0"),
        (
            lambda: random.randint(5, 5),
            ArgumentError,
            r"randint: cannot take \(int 5, int 5, NoneType None\): low",
        ),
        (lambda: random.permutation(tg.tensor(1.0)), (ShapeError, DTypeError), "permutation: cannot take"),
        (lambda: random.manual_seed(-1), ArgumentError, r"manual_seed: cannot take \(int -1\)"),
        (lambda: random.manual_seed("x"), DTypeError, "manual_seed: cannot take"),
    ],
)
def test_refusals(draw: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        draw()


def test_this_is_the_only_place_random_numbers_come_from() -> None:
    """Elsewhere there are only generators that were handed in, or made from a seed that is written out."""
    for path in Path(random.__file__).parent.rglob("*.py"):
        if path.name != "random.py":
            used = re.findall(
                r"\b(?:np|numpy)\.random\.(?!Generator\b|default_rng\(\w)\w+", path.read_text(encoding="utf-8")
            )
            assert not used, f"{path} uses {used}"
