"""Accuracy on the test images, of what the search found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.config import Teacher
from tinsmith.pipeline.flow import Artifact
from tinsmith.pipeline.interpreter import run_samples
from tinsmith.pipeline.model_files import read_model, to_input
from tinsmith.pipeline.stages.common import accuracy


def integer_accuracy(quantized: Artifact, x: NDArray[Any], y: NDArray[np.int64]) -> float:
    """Percent that the network of the stage `quantize` says rightly: x as `load` writes it."""
    graph = read_model(quantized.file("model.tflite")).graph
    entry = graph.tensors[graph.inputs[0]]
    samples = np.ascontiguousarray(x.transpose(quantized.json()["input_axes"]))
    outputs = run_samples(graph, {entry.name: to_input(samples, entry, "the test images")})
    return round(accuracy(outputs[0], y), 4)


def teacher_accuracy(
    teacher: Artifact, options: Teacher, few: Artifact, x: NDArray[Any], y: NDArray[np.int64]
) -> float:
    """Percent that the teacher says rightly."""
    import torch

    from tinsmith.pipeline.training.networks import accuracy as percent
    from tinsmith.pipeline.training.results import read_samples, read_teacher

    network = read_teacher(teacher.path, options, read_samples(few.path))
    return percent(network, torch.from_numpy(x), torch.from_numpy(y))
