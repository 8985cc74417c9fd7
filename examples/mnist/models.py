"""The two networks of the example: the teacher, and the student that becomes firmware."""

from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, pool: int = 1) -> nn.Sequential:
    """A convolution, pooling, batch norm (which is folded into the weights later) and ReLU.

    No padding: there is no border to treat apart. Pooling comes before batch norm and ReLU, which
    gives the same kind of function for a quarter of their work.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, bias=False),
        nn.MaxPool2d(pool) if pool > 1 else nn.Identity(),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Teacher(nn.Module):
    """Three wide convolutions and two linear layers: accurate, and far too big for the target."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(1, 32, 5, pool=2),
            conv(32, 64, 3, pool=2),
            conv(64, 128, 3),
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
    """Two convolutions that halve the image (28, 12, 5), a third (3), and one linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(1, 8, 5, stride=2),
            conv(8, 24, 3, stride=2),
            conv(24, 32, 3),
            nn.Flatten(),
            nn.Linear(32 * 3 * 3, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
