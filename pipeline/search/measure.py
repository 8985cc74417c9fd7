"""What a network's firmware costs on a target: linked, and run in the emulator."""

from __future__ import annotations

import numpy as np

from tinsmith.codegen.emit import model_name
from tinsmith.pipeline.config import Config, c_name
from tinsmith.pipeline.deployment import make_program, temporary_build
from tinsmith.pipeline.errors import ConfigError, GateFailed
from tinsmith.pipeline.flow import Artifact
from tinsmith.pipeline.model_files import to_input
from tinsmith.pipeline.search.budget import Costs
from tinsmith.pipeline.stages.common import read_for_device, read_integers
from tinsmith.pipeline.stages.generate import code_options
from tinsmith.pipeline.validation import differing_bytes, interpret, run_device
from tinsmith.targets.target import Target, all_targets


def check_measurable(target: Target) -> None:
    """ConfigError for a target whose emulator counts no instructions."""
    if target.core.cpu_model is None:
        able = ", ".join(t.name for t in all_targets() if t.core.cpu_model is not None)
        raise ConfigError(
            f"-t {target.name}: trials are scored by sizes and instructions, which can't be "
            f"measured there; allowed: {able}"
        )


def measure(config: Config, target: Target, few: Artifact, quantized: Artifact) -> Costs:
    """The costs of the network that the stage `quantize` wrote, on the first of a few images.

    Raises DoesNotFit, UnsupportedModel; GateFailed where the C and the interpreter disagree, which
    is a bug.
    """
    model = read_integers(quantized)
    program = make_program(
        model.graph, model_name(c_name(config)), target, code_options(config),
        model_sha256=model.sha256,
    )  # fmt: skip
    entry = model.graph.tensors[model.graph.inputs[0]]
    image = to_input(read_for_device(few, quantized).x_test[:1], entry, "the images")
    samples = {entry.name: np.ascontiguousarray(image)}
    with temporary_build(program, target) as made:
        outputs, instructions, stack = run_device(made, samples)
        sizes = made.image.sizes
    if differing_bytes(outputs, interpret(model.graph, samples)):
        raise GateFailed(f"the C of '{program.name}' on {target.name} differs from the interpreter")
    assert sizes is not None and instructions is not None and stack is not None
    return Costs(sizes.flash_bytes, sizes.ram_bytes + stack, instructions)
