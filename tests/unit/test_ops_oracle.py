"""Every op of the table gives the bytes of its oracle, on every case."""

from __future__ import annotations

import numpy as np
import pytest

from cases import CASES, Case
from support.case import built
from tinsmith.pipeline import interpreter, oracles
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import Graph
from tinsmith.pipeline.ops import OPS, Oracle, call_of

SAMPLES = 6
FLOAT_TOLERANCE = 1e-5

ALL = [pytest.param(op, case, id=f"{op}-{case.name}") for op in CASES for case in CASES[op]]


def _definer(op: str, graph: Graph) -> Oracle:
    """Whose arithmetic the case's one node computes."""
    node = next(n for n in graph.nodes if n.op == op)
    return OPS[op].definer(call_of(graph, node))


@pytest.mark.parametrize(("op", "case"), ALL)
def test_the_interpreter_gives_the_bytes_of_the_oracle(op: str, case: Case) -> None:
    graph, samples = built(op, case, SAMPLES)
    kind = case.oracle or _definer(op, graph)
    if kind is Oracle.OWN:
        pytest.skip(f"no other runtime has {op}; its definition has tests of its own")
    name = oracles.TFLM.name if kind is Oracle.TFLM else oracles.TFLITE_REF.name
    if name not in oracles.installed_oracles():
        pytest.skip(f"the oracle {name} is not installed")
    ours = interpreter.run_samples(graph, samples)
    theirs = oracles.oracle(name).run(to_tflite(graph), samples)
    for y, z in zip(ours, theirs, strict=True):
        assert y.dtype == z.dtype
        if y.dtype.kind == "f":
            np.testing.assert_allclose(y, z, rtol=FLOAT_TOLERANCE, atol=FLOAT_TOLERANCE)
        else:
            np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize(("op", "case"), ALL)
def test_a_case_shows_many_values(op: str, case: Case) -> None:
    """An output that is all one value would agree with anything."""
    graph, samples = built(op, case, SAMPLES)
    for y in interpreter.run_samples(graph, samples):
        assert case.few_values or len(np.unique(y)) >= 8


def test_every_op_of_the_table_has_cases_with_names_of_their_own() -> None:
    assert set(CASES) == set(OPS)
    for op, cases in CASES.items():
        assert len({c.name for c in cases}) == len(cases), op
