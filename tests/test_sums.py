"""The warning for `loss_sum += loss`, and the sums that are all right."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import tinygrad_nn as tg
from tinygrad_nn import sums
from tinygrad_nn.autograd import GraphKeptWarning


@pytest.fixture(autouse=True)
def as_in_a_new_process() -> Iterator[None]:
    sums._warned.clear()
    yield
    sums._warned.clear()


def loss_of(w: tg.Tensor, i: int) -> Any:
    return ((w - float(i)) ** 2).sum()


def weights() -> tg.Tensor:
    return tg.tensor([1.0, 2.0], requires_grad=True)


def train(before: bool) -> None:
    w, total = weights(), tg.tensor(0.0)
    for i in range(300):
        loss = loss_of(w, i)
        if before:
            total += loss
        loss.backward()
        if not before:
            total += loss


@pytest.mark.parametrize("before", [True, False])
def test_adding_losses_before_or_after_their_backward(before: bool) -> None:
    with pytest.warns(GraphKeptWarning, match=r"\+= at .*test_sums\.py:\d+ .*loss\.item\(\)") as seen:
        train(before)
    assert len(seen) == 1, "once for each line"
    assert seen[0].filename == __file__


def test_adding_without_the_in_place_operator_is_seen_when_it_is_read() -> None:
    w, total = weights(), 0.0
    for i in range(150):
        loss = loss_of(w, i)
        total = total + loss
        loss.backward()
    assert isinstance(total, tg.Tensor)
    with pytest.warns(GraphKeptWarning, match=r"read by item\(\) at .*test_sums\.py"):
        total.item()


def evaluate() -> None:
    w, total = weights(), tg.tensor(0.0)
    for i in range(1100):
        total += loss_of(w, i)


def test_evaluation_that_keeps_a_thousand_graphs() -> None:
    with pytest.warns(GraphKeptWarning, match="added up 1,000 results"):
        evaluate()
    w, plain = weights(), 0.0
    for i in range(1100):
        plain = plain + loss_of(w, i)
    with pytest.warns(GraphKeptWarning, match="sum of 1,000 results"):
        plain.item()  # type: ignore[attr-defined]


def test_sums_that_are_differentiated_or_hold_no_graph_are_all_right() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w = weights()
        for _ in range(30):  # fifty steps of a recurrent network, then backward
            h, total = w * 1.0, tg.tensor(0.0)
            for _ in range(50):
                h = tg.tanh(h * w)
                total += h.sum()
            total.backward()
            total.item()
        h, total = w * 1.0, tg.tensor(0.0)
        for _ in range(1500):  # a long sequence: its steps share their graph
            h = tg.tanh(h * w)
            total += h.sum()
        total.item()
        numbers, detached = 0.0, tg.tensor(0.0)
        for i in range(1500):  # gradient accumulation
            loss = loss_of(w, i)
            loss.backward()
            numbers += loss.item()
            detached += loss.detach()
        first, second = loss_of(w, 1), loss_of(w, 2)
        both = first + second
        first.backward()
        second.backward()
        both.item()  # a look at the sum of two
