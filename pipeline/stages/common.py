"""What the stages behind the training share: samples for graphs, accuracy, metrics files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.flow import Artifact
from tinsmith.pipeline.graph import Array
from tinsmith.pipeline.tasks import Task, label_columns, read_tasks

if TYPE_CHECKING:
    from tinsmith.pipeline.model_files import Model

# The axes of [N, C, H, W] in the order in which graphs have images.
IMAGE_AXES = (0, 2, 3, 1)


@dataclass(frozen=True, eq=False)
class LabelledSamples:
    """x: float32 [N, ...] in the layout of a graph's input. y: int64 [N]. pixels: x is 0 to 1, the
    255ths of an image's bytes. Labels of several tasks are [N, tasks]."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    tasks: tuple[Task, ...]
    pixels: bool


def read_labelled(load: Artifact, axes: Sequence[int] = IMAGE_AXES) -> LabelledSamples:
    """The result of the stage `load`, its axes in this order (see frontends.onnx.input_axes)."""
    with np.load(load.file("data.npz")) as file:
        return LabelledSamples(
            np.ascontiguousarray(file["x_train"].transpose(axes)),
            file["y_train"],
            np.ascontiguousarray(file["x_test"].transpose(axes)),
            file["y_test"],
            read_tasks(file),
            bool(file["pixels"]),
        )


def read_for_device(load: Artifact, quantized: Artifact) -> LabelledSamples:
    """The result of the stage `load` in the layout of the model that `quantize` made."""
    return read_labelled(load, quantized.json()["input_axes"])


def read_integers(quantized: Artifact, name: str = "") -> Model:
    """The model that `quantize` made, called as its file or by a name.

    A .tflite keeps the state of its layers from run to run; the network that was trained had none,
    nor has this.
    """
    from tinsmith.pipeline.model_files import read_model, started_afresh

    model = started_afresh(read_model(quantized.file("model.tflite")))
    return replace(model, graph=replace(model.graph, name=name)) if name else model


def predictions(outputs: Array) -> NDArray[np.int64]:
    """The class with the greatest output (the first of equals) of each sample: outputs [N, ...]."""
    best: NDArray[np.int64] = outputs.reshape(len(outputs), -1).argmax(axis=1).astype(np.int64)
    return best


def accuracies(outputs: Sequence[Array], labels: NDArray[np.int64]) -> tuple[float, ...]:
    """Percent of the samples that are classified rightly, by each output: labels [N], or [N,
    outputs]."""
    columns = zip(outputs, label_columns(labels), strict=True)
    return tuple(float(100.0 * np.mean(predictions(out) == own)) for out, own in columns)


def accuracy(outputs: Sequence[Array], labels: NDArray[np.int64]) -> float:
    """The mean of that over the outputs."""
    found = accuracies(outputs, labels)
    return sum(found) / len(found)


def confusion_matrix(outputs: Array, labels: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Row: the true class; column: the class that the model says."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions(outputs)), 1)
    rows: list[list[int]] = matrix.tolist()
    return rows


def write_metrics(folder: Path, metrics: Mapping[str, Any], name: str = "metrics.json") -> None:
    (folder / name).write_text(json.dumps(metrics, indent=2) + "\n")
