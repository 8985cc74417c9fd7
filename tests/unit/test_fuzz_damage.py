"""A few hundred of the damaged files of tests/fuzz_models.py; run that for as many as you like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fuzz_models
from support.nets import Net
from support.tflite_edit import edit
from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import Activation
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.pipeline.ops.pool2d import Pool2dAttrs


def test_damaged_files_of_both_formats_end_in_good_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = fuzz_models.main(["--count", "400", "--start", "1000000", "--keep", str(tmp_path)])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "'refused'" in told and "'read'" in told


def test_a_file_comes_again_from_its_number() -> None:
    files = fuzz_models.seeds()
    assert fuzz_models.mutant(files, 3, 17) == fuzz_models.mutant(files, 3, 17)
    assert fuzz_models.mutant(files, 3, 17) != fuzz_models.mutant(files, 3, 18)


def test_a_process_that_dies_is_told_and_the_rest_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    real = fuzz_models.run_one

    def run_one(path: Path, number: int) -> fuzz_models.Outcome:
        if number == 5:
            os._exit(9)
        return real(path, number)

    monkeypatch.setattr(fuzz_models, "run_one", run_one)
    found = fuzz_models.run_chunk(0, range(3, 8), tmp_path)
    assert [o.number for o in found] == [3, 4, 5, 6, 7]
    assert found[2].kind == "process died"


def without_scale(name: bytes) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.name == name:
                tensor.quantization = None

    return change


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("fully_connected", FullyConnectedAttrs()),
        ("max_pool2d", Pool2dAttrs((2, 2), (1, 1), activation=Activation.RELU)),
    ],
)
def test_an_output_whose_clamp_or_sums_need_a_scale_is_refused_without_one(
    op: str, attrs: Any
) -> None:
    net = Net("net", np.random.default_rng(0))
    x = net.input((1, 4, 4, 8) if op == "max_pool2d" else (1, 8))
    weights = [net.weights((4, 8), x, axis=0)] if op == "fully_connected" else []
    model = to_tflite(net.graph([net.node(op, [x, *weights], attrs, name="last")]))
    with pytest.raises(UnsupportedModel, match="'last_out' is int8 without a scale"):
        read_tflite(edit(model, without_scale(b"last_out")))
