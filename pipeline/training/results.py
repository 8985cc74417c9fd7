"""What training stages read and write: samples in, network and measurements out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tinsmith.pipeline.config import CodeRef, Teacher
from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.tasks import accuracy_metrics, read_tasks
from tinsmith.pipeline.training.export import export_onnx
from tinsmith.pipeline.training.loop import AfterStep, Epoch, Samples
from tinsmith.pipeline.training.losses import NO_LABEL
from tinsmith.pipeline.training.networks import (
    Weights,
    accuracies,
    cost,
    load_weights,
    make_network,
    make_teacher,
)

# What a stage tells of the network before it, where that told it.
SUMMARY = ("accuracy", "tasks", "parameters", "macs")

_WEIGHTS, _EARLY = "weights.pt", "early.pt"


def summary_of(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """That part of a stage's metrics.json."""
    return {name: metrics[name] for name in SUMMARY if name in metrics}


def read_samples(folder: Path, unlabelled: bool = False) -> Samples:
    """The result of the stage `load` as tensors.

    unlabelled: images without labels are among those to train on, with NO_LABEL.
    """
    with np.load(folder / "data.npz") as file:
        tensors = {
            name: torch.from_numpy(file[name])
            for name in ("x_train", "y_train", "x_test", "y_test")
        }
        if unlabelled and "x_unlabelled" in file:
            more = torch.from_numpy(file["x_unlabelled"])
            none = torch.full((len(more), *tensors["y_train"].shape[1:]), NO_LABEL)
            tensors["x_train"] = torch.cat([tensors["x_train"], more])
            tensors["y_train"] = torch.cat([tensors["y_train"], none])
        return Samples(**tensors, tasks=read_tasks(file))


def sample_of(samples: Samples) -> Tensor:
    """An input [1, C, H, W] of the right shape."""
    return samples.x_test[:1].clone()


def read_network(folder: Path, model: CodeRef, samples: Samples) -> nn.Module:
    """A network that an earlier stage trained, with the widths that pruning may have left."""
    network = make_network(model, sample_of(samples), samples.tasks)
    return load_weights(network, read_weights(folder / _WEIGHTS))


def keep_early(folder: Path, epoch: int, epochs: int, network: nn.Module) -> AfterStep:
    """What writes the weights after `epoch` of `epochs` into the folder; see `read_early`."""

    def after(step: int, steps: int) -> None:
        if step * epochs == epoch * steps:
            torch.save(network.state_dict(), folder / _EARLY)

    return after


def read_early(folder: Path) -> Weights:
    """The weights that `keep_early` wrote. Raises ConfigError where there are none."""
    if not (folder / _EARLY).exists():
        raise ConfigError(
            '[prune] schedule = "rewind" goes back to weights of the student as `distil` trained '
            "it; it doesn't go with [factorize]"
        )
    return read_weights(folder / _EARLY)


def read_teacher(folder: Path, options: Teacher, samples: Samples) -> nn.Module:
    """The teacher that an earlier stage trained, with all its members."""
    network = make_teacher(options, sample_of(samples), samples.tasks)
    return load_weights(network, read_weights(folder / _WEIGHTS))


def read_weights(path: Path) -> Weights:
    weights: Weights = torch.load(path, weights_only=True)
    return weights


def write_network(
    network: nn.Module,
    samples: Samples,
    out_dir: Path,
    history: Sequence[Epoch],
    **more: Any,
) -> None:
    """Write weights.pt, model.onnx and metrics.json: accuracy (percent of all test images; of
    several tasks the mean, and `tasks` has that of each), test_samples, parameters, macs (total),
    layer_macs, epochs, and `more`.
    """
    sample = sample_of(samples)
    network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    torch.save(network.state_dict(), out_dir / _WEIGHTS)
    export_onnx(network, sample, out_dir / "model.onnx", [task.name for task in samples.tasks])
    measured = cost(network, sample)
    metrics = {
        **accuracy_metrics(samples.tasks, accuracies(network, samples.x_test, samples.y_test)),
        "test_samples": len(samples.y_test),
        "parameters": measured.parameters,
        "macs": measured.total_macs,
        "layer_macs": measured.macs,
        **more,
        "epochs": [asdict(epoch) for epoch in history],
    }
    (out_dir / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
