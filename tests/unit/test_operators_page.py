"""The page of operators says what the tables of the code say, and these tell the truth."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

from cases import CASES
from tinsmith.codegen.kernels import kernels_of
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.onnx import to_onnx_qdq
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.onnx_ops import IMPORTERS, MICROSOFT_IMPORTERS
from tinsmith.pipeline.frontends.tflite_file import read_file
from tinsmith.pipeline.frontends.tflite_ops import OP_IMPORTERS
from tinsmith.pipeline.operators_page import (
    ONNX_OTHERS,
    ONNX_SOURCES,
    TFLITE_SOURCES,
    TFLITE_WITHOUT_OP,
    op_facts,
    page,
)
from tinsmith.pipeline.ops import OPS
from tinsmith.pipeline.report.tables import print_ops

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"


def test_the_page_in_docs_is_what_the_code_writes() -> None:
    assert PAGE.read_text() == page(), (
        "run: python -m tinsmith.pipeline.operators_page > docs/operators.md"
    )


def test_every_operator_of_tflite_that_is_imported_stands_on_the_page_once() -> None:
    listed = [name for names in TFLITE_SOURCES.values() for name in names]
    assert len(listed) == len(set(listed))
    assert {*listed, *TFLITE_WITHOUT_OP} == set(OP_IMPORTERS)
    assert not {*listed} & {*TFLITE_WITHOUT_OP}


def test_every_onnx_op_that_is_imported_stands_on_the_page() -> None:
    listed = {name for names in ONNX_SOURCES.values() for name in names}
    assert listed | {*ONNX_OTHERS} == {*IMPORTERS, *MICROSOFT_IMPORTERS}


def test_the_sources_are_of_ops_that_exist() -> None:
    assert set(TFLITE_SOURCES) == set(OPS)
    assert set(ONNX_SOURCES) <= set(OPS)


@pytest.mark.parametrize("op", sorted(CASES))
def test_an_op_is_written_as_the_operator_that_the_page_names(op: str) -> None:
    graph = CASES[op][0].build(np.random.default_rng(3))
    written = [o.code for o in read_file(to_tflite(graph), None).subgraphs[0].operators]
    assert set(written) & set(TFLITE_SOURCES[op]), written


@pytest.mark.parametrize("op", sorted(set(CASES) & set(ONNX_SOURCES)))
def test_an_op_is_written_to_onnx_as_an_op_that_the_page_names(op: str) -> None:
    graph = CASES[op][0].build(np.random.default_rng(3))
    fact = next(f for f in op_facts() if f.name == op)
    if not fact.to_onnx:
        with pytest.raises(UnsupportedModel, match="not exported to ONNX"):
            to_onnx_qdq(graph)
        return
    model = onnx.load_from_string(to_onnx_qdq(graph))
    written = {n.op_type for n in model.graph.node}
    parts = {"split": {"Slice"}}  # an op that is taken apart
    assert written & parts.get(op, set(ONNX_SOURCES[op])), written


def test_every_op_has_a_kernel_in_plain_c_but_for_reshape() -> None:
    assert [op for op in OPS if not kernels_of(op, ("c",))] == ["reshape"]


def test_the_command_prints_the_same_facts() -> None:
    console = Console(width=250, file=io.StringIO())
    print_ops(console)
    words = set(console.file.getvalue().split())  # type: ignore[attr-defined]
    for fact in op_facts():
        assert {fact.name, *fact.tflite, *fact.onnx, *fact.kernels} <= words
