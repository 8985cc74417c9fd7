"""The networks of the distillation benchmark: one shape, as wide teacher and narrow student.

Five convolutions (28, 14, 14, 7 and 7 pixels), the mean over the image, a linear layer.
"""

from torch import Tensor, nn


def conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Net(nn.Module):
    """Widths a, b, b, c, c; `dropout` before the linear layer."""

    def __init__(self, a: int, b: int, c: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.first = conv(1, a, 1)
        self.down1 = conv(a, b, 2)
        self.mid = conv(b, b, 1)
        self.down2 = conv(b, c, 2)
        self.last = conv(c, c, 1)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(c, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.down1(self.first(x)))
        x = self.last(self.down2(x))
        return self.head(self.drop(x.mean((2, 3))))


def teacher(classes: int) -> nn.Module:
    """249,000 parameters."""
    return Net(36, 72, 108, classes, 0.3)


def assistant(classes: int) -> nn.Module:
    """87,000 parameters."""
    return Net(21, 42, 64, classes, 0.1)


def student(classes: int) -> nn.Module:
    """28,000 parameters: 28 KB of int8 weights."""
    return Net(12, 24, 36, classes, 0.0)
