"""Arenas outside the context on emulated cores: the same bytes, guarded, and counted alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.builds import check_build
from support.networks import convolutional, recurrent
from tinsmith.pipeline.code_options import CodeOptions
from tinsmith.pipeline.deployment import make_program
from tinsmith.targets.target import target_named


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "raspberry-pi-4"])
def test_an_arena_from_the_caller_costs_a_pointer_more(name: str, tmp_path: Path) -> None:
    target = target_named(name)
    for graph in (convolutional(), recurrent()):
        sizes = []
        for arena in ("static", "caller"):
            program = make_program(graph, "net", target, CodeOptions(arena=arena))
            made = check_build(program, target, tmp_path / graph.nodes[0].op / arena)
            assert made.image.sizes is not None
            sizes.append(made.image.sizes)
        static, caller = sizes
        assert caller.context_bytes == target.pointer_bytes
        # The context is rounded up to the alignment of its words.
        assert 0 <= static.ram_bytes - (caller.ram_bytes - target.pointer_bytes) < 8
        assert caller.weight_bytes == static.weight_bytes
