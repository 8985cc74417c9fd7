"""What the stages behind the training share: images in NHWC, accuracy, metrics files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.flow import Artifact
from tinsmith.pipeline.graph import Array


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """x: float32 [N, H, W, C], pixel / 255. y: int64 [N]."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: int


def read_images(load: Artifact) -> LabelledImages:
    """The result of the stage `load`, in the layout of the graphs."""
    with np.load(load.file("data.npz")) as file:
        return LabelledImages(
            _to_nhwc(file["x_train"]),
            file["y_train"],
            _to_nhwc(file["x_test"]),
            file["y_test"],
            int(file["classes"]),
        )


def _to_nhwc(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def predictions(outputs: Array) -> NDArray[np.int64]:
    """The class with the greatest output (the first of equals) of each sample: outputs [N, ...]."""
    best: NDArray[np.int64] = outputs.reshape(len(outputs), -1).argmax(axis=1).astype(np.int64)
    return best


def accuracy(outputs: Array, labels: NDArray[np.int64]) -> float:
    """Percent of the samples that are classified rightly."""
    return float(100.0 * np.mean(predictions(outputs) == labels))


def confusion_matrix(outputs: Array, labels: NDArray[np.int64], classes: int) -> list[list[int]]:
    """Row: the true class; column: the class that the model says."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predictions(outputs)), 1)
    rows: list[list[int]] = matrix.tolist()
    return rows


def write_metrics(folder: Path, metrics: Mapping[str, Any], name: str = "metrics.json") -> None:
    (folder / name).write_text(json.dumps(metrics, indent=2) + "\n")
