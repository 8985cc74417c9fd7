"""Transposes and reshapes made few: each moves down until it meets its inverse or is absorbed.

A transpose moves below element-by-element ops, pads, means and reshapes that keep its groups of
axes together; below a flatten it goes into the weights of the fully connected layer that follows.
Nothing moves up, so that the rules come to an end.
"""

from __future__ import annotations

from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.passes import layout_absorb as absorb
from tinsmith.pipeline.passes import layout_merge as merge
from tinsmith.pipeline.passes import layout_sink as sink
from tinsmith.pipeline.passes.layout_common import moves_only_ones
from tinsmith.pipeline.passes.rewrite import Rule, apply_rules

RULES: tuple[Rule, ...] = (
    merge.drop_identity,
    merge.merge_transposes,
    merge.merge_reshapes,
    merge.squeeze_reduction,
    merge.keep_rows,
    sink.below_unary,
    sink.below_rowwise,
    sink.below_pad,
    sink.below_slice,
    sink.below_split,
    sink.below_gather,
    sink.below_reduction,
    sink.below_arg,
    sink.below_broadcast,
    sink.below_reshape,
    absorb.into_fully_connected,
    absorb.into_batch_matmul,
)


def simplify_layout(graph: Graph) -> Graph:
    """The same network with as few transposes and reshapes as the rules reach."""
    result = apply_rules(graph, RULES)
    # A transpose that moves only axes of one goes further as a transpose than as a reshape.
    result = apply_rules(result, (merge.transpose_to_reshape, *RULES))
    return result if _moved_bytes(result) <= _moved_bytes(graph) else graph


def _moved_bytes(graph: Graph) -> int:
    return sum(
        graph.tensors[n.outputs[0]].nbytes
        for n in graph.nodes
        if n.op == "transpose"
        and not moves_only_ones(graph.tensors[n.inputs[0]].shape, n.attrs.perm)
    )
