"""Nodes that no output depends on are left out, and with them the tensors that nothing reads."""

from __future__ import annotations

from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.passes.rewrite import Editor


def remove_dead(graph: Graph) -> Graph:
    """The same network without dead nodes."""
    return Editor(graph).build()
