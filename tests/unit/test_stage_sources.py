"""A stage's cache knows every module that makes its result."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tinsmith.pipeline.stages.generate import CODE_SOURCES
from tinsmith.pipeline.stages.quantize import QuantizeStudent

# They word messages, and place what is made elsewhere: a result does not change with them.
NO_PART_OF_A_RESULT = ("tinsmith.pipeline.errors", "tinsmith.pipeline.files", "tinsmith.pipeline")

# What the stages' `run` loads.
LOADED = {
    "quantize": (
        QuantizeStudent.sources,
        "tinsmith.pipeline.exporters.tflite, tinsmith.pipeline.model_files, "
        "tinsmith.pipeline.quantization, tinsmith.pipeline.frontends.onnx, "
        "tinsmith.pipeline.frontends.tflite",
    ),
    "generate, build and validate": (
        CODE_SOURCES,
        "tinsmith.pipeline.generation, tinsmith.pipeline.deployment, "
        "tinsmith.pipeline.validation, tinsmith.pipeline.model_files, "
        "tinsmith.pipeline.output_folder, tinsmith.pipeline.frontends.tflite",
    ),
}


@pytest.mark.parametrize("stage", LOADED)
def test_every_module_that_a_stage_loads_is_among_its_sources(stage: str) -> None:
    sources, modules = LOADED[stage]
    code = f"import sys, {modules}; print(*(m for m in sys.modules if m.startswith('tinsmith.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unknown = [
        name
        for name in done.stdout.split()
        if name not in NO_PART_OF_A_RESULT
        and not any(name == s or name.startswith(f"{s}.") for s in sources)
    ]
    assert not unknown
