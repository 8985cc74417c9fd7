"""A small network of every op that is trained in integers, which learns the corners a little."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.corners import corner_samples
from tinsmith.pipeline.config import Augment
from tinsmith.pipeline.training.loop import Recipe, fit, repeatable
from tinsmith.pipeline.training.losses import label_loss
from tinsmith.pipeline.training.results import write_network

SAMPLES = corner_samples(200, 80)
IMAGES = SAMPLES.x_train.permute(0, 2, 3, 1).numpy()


class Net(nn.Module):
    """Each op with a gradient: convolutions with borders and strides, depthwise, a residual sum,
    both pools, a mean, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.middle = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.point = nn.Conv2d(6, 6, 1)
        self.second = nn.Conv2d(6, 8, 3, stride=2)
        self.hidden = nn.Linear(8, 12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        x = torch.relu(x + self.point(F.relu6(self.middle(x))))
        x = F.avg_pool2d(F.pad(torch.relu(self.second(x)), (1, 0, 0, 1)), 2, 1)
        return self.head(torch.relu(self.hidden(x.mean((2, 3)))))


def recipe(epochs: int, rate: float = 5e-3) -> Recipe:
    still = Augment(rotate_degrees=0, shift_pixels=0, scale=0, shear=0)
    return Recipe(epochs, 20, rate, 0.0, still, 7)


def quiet(message: str, fraction: float | None = None) -> None:
    """Progress that nobody looks at."""


def trained(folder: Path) -> Path:
    """The folder, with weights.pt and model.onnx of the network."""
    with repeatable(1, 1):
        net = Net()
        history = fit(net, SAMPLES, recipe(5), label_loss, folder / "c.pt", quiet)
    write_network(net, SAMPLES, folder, history)
    return folder
