"""A warning for `loss_sum += loss` where the number was meant: the sum keeps the graph of every loss alive.

A sum that is differentiated later is all right, be it of fifty steps of a recurrent network. Two things tell the other
kind: a summand whose graph `backward` has freed already, through which no gradient can come any more; and a thousand
summands whose graphs have nothing in common.
"""

from __future__ import annotations

import warnings

from .errors import GraphKeptWarning
from .graph import AnyNode, Node, reachable
from .lines import Line, user_line

MANY = 1000
SPENT = 100  # so many summands that cannot be differentiated any more are no accident
_warned: set[Line] = set()  # of the lines that have been warned of: once is enough


def added(total: AnyNode | None, summand: AnyNode | None, made: Node) -> None:
    """`made` is about to become the node of what `total` was the node of, by `+= summand`."""
    made.watched().count = count = 1 + (1 if total is None else total.known.count)
    if count % SPENT == 0:
        if _is_freed(summand) or (isinstance(total, Node) and any(map(_is_freed, total.parents))):
            _warn(f"+= at {user_line()} has added up {SPENT} results or more. {_SPENT}")
        elif count == MANY:
            _judge(made, f"+= at {user_line()} has added up")


def read(node: AnyNode | None) -> None:
    """`item()` reads a sum, which may have been made by `total = total + loss`."""
    count, spent, top = 1, 0, node
    while isinstance(node, Node) and node.op.name == "add" and node.parents and count < MANY and spent < SPENT:
        spent += any(map(_is_freed, node.parents))
        node = node.parents[0] or node.parents[1]
        count += 1
    if spent == SPENT:
        _warn(f"the number read by item() at {user_line()} is a sum of {SPENT} results or more. {_SPENT}")
    elif count == MANY and isinstance(top, Node):
        _judge(top, f"the number read by item() at {user_line()} is a sum of")


_SPENT = "It keeps their graphs, though backward has freed those already, so that no gradient can come through the sum."


def _is_freed(node: AnyNode | None) -> bool:
    return isinstance(node, Node) and node.saved is None and not node.parents


def _judge(total: Node, what: str) -> None:
    """Warn if the last two summands share no step of the computation: then each keeps a graph of its own."""
    before, last = total.parents[:2]
    previous = before.parents[1] if isinstance(before, Node) and len(before.parents) == 2 else None
    if not isinstance(last, Node) or not isinstance(previous, Node):
        return
    if not {n for n in reachable([last]) if isinstance(n, Node)}.isdisjoint(reachable([previous])):
        return
    _warn(f"{what} {MANY:,} results, and keeps the graphs of all of them in memory until backward of the sum.")


def _warn(text: str) -> None:
    line = user_line()
    if line not in _warned:
        _warned.add(line)
        text += " If only the number is wanted, add loss.item() or loss.detach()."
        warnings.warn_explicit(text, GraphKeptWarning, line.file, line.number)
