"""sensitivity: how much each layer of a trained float network minds being made smaller.

It is no part of a run: `tinsmith sensitivity` asks for it, with the network as `student`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from tinsmith.pipeline.config import CodeRef, Config
from tinsmith.pipeline.flow import Artifact, Progress, Stage
from tinsmith.pipeline.stages.common import read_labelled, write_metrics
from tinsmith.pipeline.stages.quantize import GRAPH_SOURCES
from tinsmith.pipeline.training.sources import (
    TRAINING_SOURCES,
    TRAINING_TOOLS,
    model_files,
    need_torch,
)

PLOT = "sensitivity.svg"
FOUND = "sensitivity.json"
# Of the training samples; the network has seen them.
SEEN, TEST = "training samples", "test samples"


@dataclass(frozen=True)
class MeasureSensitivity(Stage):
    """Writes sensitivity.json (see `insight.sensitivity.Sensitivity`) and sensitivity.svg.

    count: on how many samples, drawn from the training samples, or from the test samples where
    `test` is set.
    """

    name: ClassVar[str] = "sensitivity"
    inputs: ClassVar[tuple[str, ...]] = ("load", "student")
    sources: ClassVar[tuple[str, ...]] = (
        *TRAINING_SOURCES,
        *GRAPH_SOURCES,
        "tinsmith.pipeline.insight",
        "tinsmith.pipeline.report.line_chart",
        "tinsmith.pipeline.stages.common",
        *(
            f"tinsmith.pipeline.training.{part}"
            for part in (
                "criteria",
                "cuts",
                "decompositions",
                "hidden",
                "hidden_parts",
                "low_rank",
                "losses",
                "pruning",
                "sparsity",
            )
        ),
    )
    tools: ClassVar[tuple[str, ...]] = (*TRAINING_TOOLS, "onnx", "torch-pruning")

    model: str
    student: CodeRef
    count: int
    test: bool
    seed: int
    threads: int

    @classmethod
    def from_config(cls, config: Config, model: str, count: int, test: bool) -> Self:
        run = config.run
        return cls(model, config.distil.student, count, test, run.seed, run.threads)

    def files(self) -> tuple[Path, ...]:
        return model_files((self.student,))

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        need_torch(self.name)
        from tinsmith.pipeline.frontends.onnx import input_axes
        from tinsmith.pipeline.insight.layers import network_readings, recurrent_layers
        from tinsmith.pipeline.insight.sensitivity import (
            Sensitivity,
            bits_readings,
            names_of_layers,
        )
        from tinsmith.pipeline.model_files import read_model, to_input
        from tinsmith.pipeline.report.line_chart import line_chart
        from tinsmith.pipeline.report.sensitivity_tables import panels_of
        from tinsmith.pipeline.training.loop import repeatable, seed_of
        from tinsmith.pipeline.training.networks import LAYERS, accuracy
        from tinsmith.pipeline.training.results import read_network, read_samples

        seed = seed_of(self.seed, self.name)
        samples = read_samples(inputs["load"].path)
        x, y = (samples.x_test, samples.y_test) if self.test else (samples.x_train, samples.y_train)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(y))[: self.count])
        onnx = inputs["student"].file("model.onnx")
        graph = read_model(onnx).graph
        labelled = read_labelled(inputs["load"], input_axes(onnx)[graph.inputs[0]])
        entry = graph.tensors[graph.inputs[0]]
        own = (labelled.x_test if self.test else labelled.x_train)[chosen]
        own = to_input(own, entry, "the samples")
        with repeatable(seed, self.threads):
            network = read_network(inputs["student"].path, self.student, samples)
            x, y = x[chosen], y[chosen]
            whole = accuracy(network, x, y)
            readings, left_out = network_readings(network, x, y, progress)
            known = [name for name, m in network.named_modules() if isinstance(m, LAYERS)]
            names = names_of_layers(graph, known, recurrent_layers(network))
        readings += bits_readings(graph, own, y.numpy(), progress, names)
        evidence = TEST if self.test else SEEN
        found = Sensitivity(self.model, evidence, len(y), whole, tuple(readings), tuple(left_out))
        write_metrics(out_dir, found.json(), FOUND)
        (out_dir / PLOT).write_text(line_chart(panels_of(found)))
