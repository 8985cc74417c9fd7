"""Accuracy on the test images, of what the search found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.config import Data, Teacher
from tinsmith.pipeline.data import read_dataset, source_files, to_float
from tinsmith.pipeline.flow import Artifact, Progress, Stage, run_flow
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.search.outcome import Trial
from tinsmith.pipeline.search.trial import Bench, Tell, results_of
from tinsmith.pipeline.stages.common import accuracy
from tinsmith.pipeline.stages.load import Load


@dataclass(frozen=True)
class TestImages(Stage):
    """Writes data.npz: `x_test` and `y_test` as `load` does, of the images that decide nothing."""

    __test__ = False  # it is none of pytest's

    name: ClassVar[str] = "test"
    sources: ClassVar[tuple[str, ...]] = Load.sources
    tools: ClassVar[tuple[str, ...]] = Load.tools

    data: Data
    seed: int

    def files(self) -> tuple[Path, ...]:
        return source_files(self.data)

    def run(self, inputs: Mapping[str, Artifact], out_dir: Path, progress: Progress) -> None:
        test = read_dataset(self.data.model_copy(update={"validation": 0.0}), self.seed).test
        np.savez(out_dir / "data.npz", x_test=to_float(test.x), y_test=test.y)


def test_accuracies(
    bench: Bench, measured: Sequence[tuple[Bench, Trial]], doing: Tell
) -> tuple[dict[int | None, float], int]:
    """Percent of the test images that the teacher (None) and trials, by number, say rightly, and
    how many images these are. measured: trials with what they were made by.
    """
    [folder] = run_flow([TestImages(bench.config.data, bench.config.run.seed)], bench.work).values()
    with np.load(folder / "data.npz") as file:
        x, y = file["x_test"], file["y_test"]
    found: dict[int | None, float] = {}
    if measured:
        found[None] = teacher_accuracy(bench.teacher, bench.config.teacher, bench.few, x, y)
    for place, (by, trial) in enumerate(measured, 1):
        doing(f"test images: {place} of {len(measured)} networks")
        found[trial.number] = integer_accuracy(results_of(by, trial.place)["quantize"], x, y)
    return found, len(y)


def integer_accuracy(quantized: Artifact, x: NDArray[Any], y: NDArray[np.int64]) -> float:
    """Percent that the network of the stage `quantize` says rightly: x as `load` writes it."""
    graph = read_model(quantized.file("model.tflite")).graph
    entry = graph.tensors[graph.inputs[0]]
    samples = np.ascontiguousarray(x.transpose(quantized.json()["input_axes"]))
    outputs = run_samples(graph, {entry.name: to_input(samples, entry, "the test images")})
    return round(accuracy(outputs, y), 4)


def teacher_accuracy(
    teacher: Artifact, options: Teacher, few: Artifact, x: NDArray[Any], y: NDArray[np.int64]
) -> float:
    """Percent that the teacher says rightly."""
    import torch

    from tinsmith.pipeline.training.networks import accuracy as percent
    from tinsmith.pipeline.training.results import read_samples, read_teacher

    network = read_teacher(teacher.path, options, read_samples(few.path))
    return percent(network, torch.from_numpy(x), torch.from_numpy(y))
