"""quantize: the pruned student as an integer graph, calibrated on training images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from tinsmith.pipeline.config import Config, Quantize
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.stages.common import accuracy, read_images, write_metrics

# Everything that decides how a graph is read, rewritten, quantized and interpreted.
GRAPH_SOURCES = (
    "tinsmith.pipeline.graph",
    "tinsmith.pipeline.numerics",
    "tinsmith.pipeline.interpreter",
    "tinsmith.pipeline.verify",
    "tinsmith.pipeline.ops",
    "tinsmith.pipeline.passes",
    "tinsmith.pipeline.frontends",
    "tinsmith.pipeline.exporters",
    "tinsmith.pipeline.quantization",
    "tinsmith.pipeline.model_files",
    "tinsmith.pipeline.cut",
    "tinsmith.pipeline.requant_proofs",
)


@dataclass(frozen=True)
class QuantizeStudent(Stage):
    """Writes model.tflite (int8, or int16 activations) and metrics.json: accuracy in percent of all
    test images, by the interpreter; samples. Raises DataError where the calibration images don't
    fit the network.
    """

    name: ClassVar[str] = "quantize"
    inputs: ClassVar[tuple[str, ...]] = ("load", "prune")
    sources: ClassVar[tuple[str, ...]] = (*GRAPH_SOURCES, "tinsmith.pipeline.stages.common")
    tools: ClassVar[tuple[str, ...]] = ("numpy", "onnx")

    options: Quantize
    seed: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(config.quantize, config.run.seed)

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        from tinsmith.pipeline.exporters.tflite import to_tflite
        from tinsmith.pipeline.interpreter import run_samples
        from tinsmith.pipeline.model_files import read_model, to_input
        from tinsmith.pipeline.quantization import QuantizeOptions, quantize

        images = read_images(inputs["load"])
        graph = read_model(inputs["prune"].file("model.onnx")).graph
        name = graph.inputs[0]
        chosen = np.random.default_rng(self.seed).permutation(len(images.x_train))
        calibration = images.x_train[np.sort(chosen[: self.options.calibration])]
        progress(f"calibrating on {len(calibration)} images", 0.1)
        wanted = self.options
        options = QuantizeOptions(
            wanted.activations,
            wanted.observer,
            per_channel=wanted.per_channel,
            equalize=wanted.equalize,
            correct_biases=wanted.correct_biases,
        )
        quantized = quantize(graph, {name: calibration}, options)
        (out_dir / "model.tflite").write_bytes(to_tflite(quantized))
        # What is measured is what was written: the file, read again.
        written = read_model(out_dir / "model.tflite").graph
        progress("measuring the quantized network on the test images", 0.4)
        entry = written.tensors[written.inputs[0]]
        x = to_input(images.x_test, entry, "the test images")
        outputs = run_samples(written, {entry.name: x})[0]
        write_metrics(
            out_dir,
            {"accuracy": accuracy(outputs, images.y_test), "test_samples": len(images.y_test)},
        )
