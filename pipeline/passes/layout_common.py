"""What the layout rules share: permutations, and looking at what is above a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinsmith.pipeline.graph import Node, Shape
from tinsmith.pipeline.passes.rewrite import Editor

Perm = tuple[int, ...]

# Over given axes.
REDUCING = frozenset(("mean", "sum", "reduce_max", "reduce_min"))


def inverse(perm: Sequence[int]) -> Perm:
    out = [0] * len(perm)
    for i, p in enumerate(perm):
        out[p] = i
    return tuple(out)


def permuted(items: Sequence[Any], perm: Sequence[int]) -> tuple[Any, ...]:
    return tuple(items[p] for p in perm)


def moves_only_ones(shape: Shape, perm: Sequence[int]) -> bool:
    """True where the transpose of `shape` keeps the order of the elements."""
    kept = [p for p in perm if shape[p] != 1]
    return kept == sorted(kept)


def source(editor: Editor, tensor: str, op: str) -> Node | None:
    node = editor.producer(tensor)
    return node if node is not None and node.op == op else None
