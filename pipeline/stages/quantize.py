"""quantize: the pruned student as an integer graph, calibrated on training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from tinsmith.pipeline.config import Augment, Config, ModelRef, Quantize
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.stages.common import accuracy, read_images, write_metrics
from tinsmith.pipeline.training.sources import TRAINING_SOURCES, model_files, need_torch

if TYPE_CHECKING:
    from tinsmith.pipeline.graph import Array, Graph
    from tinsmith.pipeline.quantization import QuantizeOptions

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


_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class QuantizeStudent(Stage):
    """Writes model.tflite (int8, or int16 activations) and metrics.json: accuracy in percent of all
    test images, by the interpreter; test_samples; epochs of training in integers, where there are.

    Raises DataError where the calibration images don't fit the network, UnsupportedModel where it
    shall be trained in integers and can't be.
    """

    name: ClassVar[str] = "quantize"
    inputs: ClassVar[tuple[str, ...]] = ("load", "prune")
    sources: ClassVar[tuple[str, ...]] = (
        *GRAPH_SOURCES,
        *TRAINING_SOURCES,
        "tinsmith.pipeline.stages.common",
        "tinsmith.pipeline.training.distillation",
        "tinsmith.pipeline.training.integer_network",
    )
    tools: ClassVar[tuple[str, ...]] = ("numpy", "onnx", "torch")
    resumable: ClassVar[bool] = True

    options: Quantize
    student: ModelRef
    augment: Augment
    seed: int
    threads: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        run = config.run
        return cls(config.quantize, config.distil.student, config.augment, run.seed, run.threads)

    def files(self) -> tuple[Path, ...]:
        return model_files((self.student,)) if self.options.epochs else ()

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
            activations=wanted.activations,
            observer=wanted.observer,
            per_channel=wanted.per_channel,
            equalize=wanted.equalize,
            correct_biases=wanted.correct_biases,
        )
        samples = {name: calibration}
        more = {}
        if wanted.epochs:
            quantized, more["epochs"] = self._train(
                graph, samples, options, inputs, out_dir, progress
            )
        else:
            quantized = quantize(graph, samples, options)
        (out_dir / "model.tflite").write_bytes(to_tflite(quantized))
        # What is measured is what was written: the file, read again.
        written = read_model(out_dir / "model.tflite").graph
        progress("measuring the quantized network on the test images", 0.9 if more else 0.4)
        entry = written.tensors[written.inputs[0]]
        x = to_input(images.x_test, entry, "the test images")
        outputs = run_samples(written, {entry.name: x})[0]
        write_metrics(
            out_dir,
            {
                "accuracy": accuracy(outputs, images.y_test),
                "test_samples": len(images.y_test),
                **more,
            },
        )
        (out_dir / _CHECKPOINT).unlink(missing_ok=True)

    def _train(
        self,
        graph: Graph,
        samples: Mapping[str, Array],
        options: QuantizeOptions,
        inputs: Mapping[str, Artifact],
        out_dir: Path,
        progress: Progress,
    ) -> tuple[Graph, list[dict[str, Any]]]:
        """The graph after training in integers on what the float network says, and the record."""
        need_torch(self.name)
        from tinsmith.pipeline.training.distillation import Distillation
        from tinsmith.pipeline.training.integer_network import IntegerNetwork
        from tinsmith.pipeline.training.loop import Recipe, fit, repeatable, seed_of
        from tinsmith.pipeline.training.losses import Labels, SoftAnswers
        from tinsmith.pipeline.training.results import read_network, read_samples

        wanted, seed = self.options, seed_of(self.seed, self.name)
        recipe = Recipe(wanted.epochs, wanted.batch, wanted.learning_rate, 0.0, self.augment, seed)
        images = read_samples(inputs["load"].path)
        with repeatable(seed, self.threads):
            teacher = read_network(inputs["prune"].path, self.student, images)
            network = IntegerNetwork(graph, samples, options, wanted.ranges)
            loss = Distillation(teacher, [SoftAnswers(0.7, 2.0), Labels(0.3)])
            history = fit(network, images, recipe, loss, out_dir / _CHECKPOINT, progress)
        return network.integer_graph(), [asdict(epoch) for epoch in history]
