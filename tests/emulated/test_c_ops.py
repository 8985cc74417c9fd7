"""Every case of every op: the generated C equals the interpreter on every target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cases import CASES
from support.devices import differences
from support.merge import merge
from support.nets import random_samples

TARGETS = ("host", "cortex-m0plus", "cortex-m3", "cortex-m4", "raspberry-pi-4", "raspberry-pi-5")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", sorted(CASES))
def test_generated_c_equals_the_interpreter_on_every_case(
    op: str, target: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(7)
    built = [(case.name, case.build(rng)) for case in CASES[op]]
    cases = [(name, graph) for name, graph in built if graph.is_quantized]
    graph = merge(op, [graph for _, graph in cases])
    samples = random_samples(graph, rng, 3)
    found = differences(graph, target, tmp_path, samples)
    wrong = {name: count for name, count in found.items() if count}
    labels = {f"g{i}": name for i, (name, _) in enumerate(cases)}
    assert not wrong, {f"{name} ({labels[name.split('_')[0]]})": n for name, n in wrong.items()}
