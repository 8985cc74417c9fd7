"""The two networks of the example: the teacher, and the student that becomes firmware."""

from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int, **options: int) -> nn.Sequential:
    """A convolution with batch norm, which is folded into the weights later, and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Teacher(nn.Module):
    """Three wide convolutions and two linear layers: accurate, and far too big for the target."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(1, 32, 5, padding=2),
            nn.MaxPool2d(2),
            conv(32, 64, 3, padding=1),
            nn.MaxPool2d(2),
            conv(64, 128, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(128 * 3 * 3, 128),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(128, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Student(nn.Module):
    """Two convolutions that halve the image, one depthwise-separable block, one linear layer.

    No padding: no border to treat apart, and the maps shrink sooner (28, 13, 6, 4).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(1, 8, 3, stride=2),
            conv(8, 24, 3, stride=2),
            conv(24, 24, 3, groups=24),
            conv(24, 32, 1),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
