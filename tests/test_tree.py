"""Trees: taken apart, put together, mapped over."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import pytest
from hypothesis import given, strategies as st

from tinygrad_nn.errors import ArgumentError
from tinygrad_nn.tree import LEAF, describe_path, flatten, paths, tree_map, unflatten

Point = namedtuple("Point", "x y")

TREES = st.recursive(
    st.integers() | st.text() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.builds(Point, inner, inner)
    ),
    max_leaves=12,
)


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


@given(TREES)
def test_unflatten_undoes_flatten(tree):
    leaves, structure = flatten(tree)
    rebuilt = unflatten(structure, leaves)
    assert rebuilt == tree
    assert type(rebuilt) is type(tree)
    assert structure.leaf_count == len(leaves)


@given(TREES)
def test_paths_lead_to_the_leaves_in_order(tree):
    leaves, structure = flatten(tree)
    assert [at(tree, path) for path in paths(structure)] == leaves


def test_known_tree():
    tree = {"b": [1, (2, 3)], "a": Point(4, {}), 7: OrderedDict(z=5)}
    leaves, structure = flatten(tree)
    assert leaves == [1, 2, 3, 4, 5]  # in insertion order, not sorted
    assert paths(structure) == [("b", 0), ("b", 1, 0), ("b", 1, 1), ("a", 0), (7, "z")]
    rebuilt = unflatten(structure, leaves)
    assert type(rebuilt["a"]) is Point
    assert type(rebuilt[7]) is OrderedDict


def test_other_types_are_leaves():
    for leaf in (None, "text", {1, 2}, range(3), 1.5):
        assert flatten(leaf) == ([leaf], LEAF)


def test_structures_compare_by_shape_alone():
    assert flatten({"a": [1, 2]})[1] == flatten({"a": ["x", None]})[1]
    assert flatten({"a": [1, 2]})[1] != flatten({"a": (1, 2)})[1]
    assert flatten({"a": 1})[1] != flatten({"b": 1})[1]
    assert flatten({"a": 1})[1] != flatten(OrderedDict(a=1))[1]


def test_tree_map():
    assert tree_map(lambda a, b: a * b, [1, {"k": 2}], [3, {"k": 4}]) == [3, {"k": 8}]


def test_errors_say_what_differs():
    with pytest.raises(ArgumentError, match="3 leaves given for a structure of 2"):
        unflatten(flatten([1, 2])[1], [1, 2, 3])
    with pytest.raises(ArgumentError, match="1 leaves given for a structure of 2"):
        unflatten(flatten([1, 2])[1], [1])
    with pytest.raises(ArgumentError, match=r"tree 2 has another structure than the first: \[1, 2, 3\]"):
        tree_map(lambda a, b: a, [1, 2], [1, 2, 3])


def test_describe_path():
    assert describe_path(("model", "0.weight", 3)) == "['model']['0.weight'][3]"
    assert describe_path(()) == "the root"
