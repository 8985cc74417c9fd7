"""The passes: one file each, Graph -> Graph, and the tables that list them in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.passes.dead_channels import dead_channels
from tinsmith.pipeline.passes.depthwise_to_conv import depthwise_to_conv
from tinsmith.pipeline.passes.drop_requantize import drop_requantize
from tinsmith.pipeline.passes.fold_batch_norm import fold_batch_norm
from tinsmith.pipeline.passes.fold_bias import fold_bias
from tinsmith.pipeline.passes.fold_constants import fold_constants
from tinsmith.pipeline.passes.fold_gather import fold_gather
from tinsmith.pipeline.passes.fold_pad import fold_pad
from tinsmith.pipeline.passes.fuse_activation import fuse_activation
from tinsmith.pipeline.passes.fuse_squared_difference import fuse_squared_difference
from tinsmith.pipeline.passes.layout import simplify_layout
from tinsmith.pipeline.passes.remove_dead import remove_dead
from tinsmith.pipeline.verify import verify

Pass = Callable[[Graph], Graph]

# On a float graph, before it is quantized. Layout comes first, since only then a layer and what
# follows it are neighbours.
FLOAT_PASSES: tuple[Pass, ...] = (
    remove_dead,
    fold_constants,
    simplify_layout,
    fold_batch_norm,
    fold_bias,
    fold_gather,
    fold_pad,
    fuse_activation,
    fuse_squared_difference,
    simplify_layout,
    remove_dead,
)

# On an integer graph: all of them keep every output byte.
INT_PASSES: tuple[Pass, ...] = (
    remove_dead,
    fold_constants,
    drop_requantize,
    simplify_layout,
    fold_pad,
    fuse_activation,
    depthwise_to_conv,
    dead_channels,
    remove_dead,
)


def run_passes(graph: Graph, passes: Sequence[Pass]) -> Graph:
    """The graph after the passes, in order, each verified.

    Raises ModelError that names the pass whose result breaks a rule, and what ran before it.
    """
    ran: list[str] = []
    for step in passes:
        try:
            graph = verify(step(graph))
        except ModelError as e:
            before = ", ".join(ran) or "nothing"
            raise type(e)(f"after the pass {step.__name__} (before it ran: {before}): {e}") from e
        ran.append(step.__name__)
    return graph


__all__ = ["FLOAT_PASSES", "INT_PASSES", "Pass", "run_passes"]
