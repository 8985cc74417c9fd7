"""The networks of the quantization benchmark, and how they are trained: the distillation's student,
and one like MobileNetV2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fashion_models import student
from torch import Tensor, nn

from tinsmith.pipeline.config import Augment, CodeRef
from tinsmith.pipeline.training.loop import Recipe, Samples, fit, repeatable
from tinsmith.pipeline.training.losses import label_loss
from tinsmith.pipeline.training.results import read_network, write_network

EPOCHS = 5


def block(inputs: int, outputs: int, stride: int, wider: int = 4) -> nn.Sequential:
    """An inverted bottleneck: pointwise to `wider` times the channels, depthwise, pointwise."""
    inside = wider * inputs
    return nn.Sequential(
        nn.Conv2d(inputs, inside, 1, bias=False), nn.BatchNorm2d(inside), nn.ReLU(),
        nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False),
        nn.BatchNorm2d(inside), nn.ReLU(),
        nn.Conv2d(inside, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
    )  # fmt: skip


class Mobile(nn.Module):
    """Like MobileNetV2: four inverted bottlenecks, residual sums where the shape stays."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU()
        )
        self.blocks = nn.ModuleList(
            [block(12, 12, 1), block(12, 20, 2), block(20, 20, 1), block(20, 28, 1)]
        )
        self.head = nn.Linear(28, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for part in self.blocks:
            y = part(x)
            x = x + y if x.shape == y.shape else y
        return self.head(x.mean((2, 3)))


NETWORKS: Mapping[str, tuple[Callable[[int], nn.Module], str]] = {
    "student": (student, "fashion_models.py:student"),
    "mobile": (Mobile, "quantization_nets.py:Mobile"),
}


def trained(name: str, samples: Samples, folder: Path, seed: int, epochs: int) -> nn.Module:
    """A network by its name, from the folder where that has one, else trained and kept there.

    The folder may be one that a training stage wrote."""
    path, _, attribute = NETWORKS[name][1].partition(":")
    model = CodeRef(path=Path(__file__).resolve().parent / path, attribute=attribute)
    if not (folder / "weights.pt").exists():
        folder.mkdir(parents=True, exist_ok=True)
        change = Augment(rotate_degrees=0, shift_pixels=1, scale=0, shear=0, flip=True)
        recipe = Recipe(epochs, 128, 6e-3, 1e-4, change, seed)
        with repeatable(seed, 1):
            network = NETWORKS[name][0](samples.classes)
            history = fit(network, samples, recipe, label_loss, folder / "c.pt", teller(name))
        write_network(network, samples, folder, history)
    return read_network(folder, model, samples).eval()


def teller(name: str) -> Any:
    """Progress on one line of standard error."""

    def tell(message: str, fraction: float | None = None) -> None:
        print(f"\r{name}: {message}\033[K", end="", file=sys.stderr, flush=True)

    return tell
