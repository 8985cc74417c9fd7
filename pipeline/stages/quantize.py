"""quantize: the pruned student as an integer graph, calibrated on training samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from tinsmith.pipeline.config import Augment, CodeRef, Config, Quantize
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.stages.common import accuracies, read_labelled, write_metrics
from tinsmith.pipeline.tasks import accuracy_metrics, weights_of
from tinsmith.pipeline.training.sources import (
    TRAINING_SOURCES,
    augment_files,
    model_files,
    need_torch,
)

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
    test samples, by the interpreter (of several tasks the mean, and `tasks` has that of each);
    test_samples; input_axes, the order in which the model has the axes of the network's input;
    epochs of training in integers, where there are; where a budget of weight bytes is given,
    weight_bytes as they are, the grid of each layer, and the errors that it was chosen by.

    Raises DataError where the calibration samples don't fit the network, ConfigError where the
    weights can't be made as small as is asked, UnsupportedModel where it shall be trained in
    integers and can't be.
    """

    name: ClassVar[str] = "quantize"
    inputs: ClassVar[tuple[str, ...]] = ("load", "prune")
    sources: ClassVar[tuple[str, ...]] = (
        *GRAPH_SOURCES,
        *TRAINING_SOURCES,
        "tinsmith.pipeline.stages.common",
        "tinsmith.pipeline.training.adaround",
        "tinsmith.pipeline.training.distillation",
        "tinsmith.pipeline.training.graph_ops",
        "tinsmith.pipeline.training.integer_network",
    )
    tools: ClassVar[tuple[str, ...]] = ("numpy", "onnx", "torch")
    resumable: ClassVar[bool] = True

    options: Quantize
    student: CodeRef
    augment: Augment
    seed: int
    threads: int

    @classmethod
    def from_config(cls, config: Config) -> Self:
        run = config.run
        return cls(config.quantize, config.distil.student, config.augment, run.seed, run.threads)

    def files(self) -> tuple[Path, ...]:
        if not self.options.epochs:
            return ()
        return (*model_files((self.student,)), *augment_files(self.augment))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        from tinsmith.pipeline.exporters.tflite import to_tflite
        from tinsmith.pipeline.frontends.onnx import input_axes
        from tinsmith.pipeline.interpreter import run_samples
        from tinsmith.pipeline.model_files import read_model, to_input

        onnx = inputs["prune"].file("model.onnx")
        graph = read_model(onnx).graph
        name = graph.inputs[0]
        axes = input_axes(onnx)[name]
        labelled = read_labelled(inputs["load"], axes)
        chosen = np.random.default_rng(self.seed).permutation(len(labelled.x_train))
        calibration = labelled.x_train[np.sort(chosen[: self.options.calibration])]
        progress(f"calibrating on {len(calibration)} samples", 0.1)
        samples = {name: calibration}
        # Whatever the brightest pixel is: the input is pixel - 128.
        ranges = {name: (0.0, 1.0)} if labelled.pixels else {}
        options, more = self._planned(graph, samples, ranges, progress)
        if self.options.epochs:
            quantized, more["epochs"] = self._train(
                graph, samples, axes, options, inputs, out_dir, progress
            )
        else:
            quantized = self._calibrated(graph, samples, options, progress)
        (out_dir / "model.tflite").write_bytes(to_tflite(quantized))
        # What is measured is what was written: the file, read again.
        written = read_model(out_dir / "model.tflite").graph
        progress("measuring the quantized network on the test samples", 0.9 if more else 0.4)
        entry = written.tensors[written.inputs[0]]
        x = to_input(labelled.x_test, entry, "the test samples")
        outputs = run_samples(written, {entry.name: x})
        write_metrics(
            out_dir,
            {
                **accuracy_metrics(labelled.tasks, accuracies(outputs, labelled.y_test)),
                "test_samples": len(labelled.y_test),
                "input_axes": axes,
                **more,
            },
        )
        (out_dir / _CHECKPOINT).unlink(missing_ok=True)

    def _planned(
        self,
        graph: Graph,
        samples: Mapping[str, Array],
        ranges: Mapping[str, tuple[float, float]],
        progress: Progress,
    ) -> tuple[QuantizeOptions, dict[str, Any]]:
        """How to quantize, with a grid for each layer where there is a budget; what to record."""
        from tinsmith.pipeline.quantization import QuantizeOptions, plan_precision

        wanted = self.options
        options = QuantizeOptions(
            activations=wanted.activations,
            weights=wanted.weights,
            int8_ends=wanted.int8_ends,
            symmetric=wanted.symmetric,
            power_of_two=wanted.power_of_two,
            rounding=wanted.rounding,
            seed=self.seed,
            observer=wanted.observer,
            per_channel=wanted.per_channel,
            equalize=wanted.equalize,
            correct_biases=wanted.correct_biases,
            ranges=ranges,
        )
        if wanted.weight_bytes is None:
            return options, {}
        plan = plan_precision(graph, samples, options, wanted.weight_bytes, progress)
        record = {"weight_bytes": plan.weight_bytes, "layers": plan.layers, "errors": plan.errors}
        return replace(options, layers=plan.layers), record

    def _calibrated(
        self,
        graph: Graph,
        samples: Mapping[str, Array],
        options: QuantizeOptions,
        progress: Progress,
    ) -> Graph:
        """The graph after training's end, with rounding that may still be learned."""
        from tinsmith.pipeline.quantization import quantize

        if options.rounding == "nearest":
            return quantize(graph, samples, options)
        need_torch(self.name)
        from tinsmith.pipeline.training.loop import repeatable

        with repeatable(self.seed, self.threads):
            return quantize(graph, samples, options, progress)

    def _train(
        self,
        graph: Graph,
        samples: Mapping[str, Array],
        axes: Sequence[int],
        options: QuantizeOptions,
        inputs: Mapping[str, Artifact],
        out_dir: Path,
        progress: Progress,
    ) -> tuple[Graph, list[dict[str, Any]]]:
        """The graph after training in integers on what the float network says, and the record."""
        need_torch(self.name)
        from tinsmith.pipeline.training.distillation import recollection
        from tinsmith.pipeline.training.integer_network import IntegerNetwork
        from tinsmith.pipeline.training.loop import Recipe, fit, repeatable, seed_of
        from tinsmith.pipeline.training.results import read_network, read_samples

        wanted, seed = self.options, seed_of(self.seed, self.name)
        recipe = Recipe(wanted.epochs, wanted.batch, wanted.learning_rate, 0.0, self.augment, seed)
        images = read_samples(inputs["load"].path)
        with repeatable(seed, self.threads):
            teacher = read_network(inputs["prune"].path, self.student, images)
            network = IntegerNetwork(graph, samples, options, wanted.ranges, axes)
            loss = recollection(teacher, weights_of(images.tasks))
            history = fit(network, images, recipe, loss, out_dir / _CHECKPOINT, progress)
        return network.integer_graph(), [asdict(epoch) for epoch in history]
