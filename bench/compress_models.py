"""The networks of the search benchmark: a teacher, and a student of any width for 8 KB of RAM."""

from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, pool: int = 1) -> nn.Sequential:
    """A convolution without padding, pooling, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, bias=False),
        nn.MaxPool2d(pool) if pool > 1 else nn.Identity(),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Teacher(nn.Module):
    """50,000 parameters."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(1, 32, 5, stride=2),
            conv(32, 48, 3, pool=2),
            conv(48, 64, 3),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(64 * 9, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Student(nn.Module):
    """Convolutions at 12, 10 and 3 pixels, the first with a stride of 2, and one linear layer."""

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__()
        first, second, third = (max(4, 4 * round(n * width / 4)) for n in (12, 24, 32))
        self.layers = nn.Sequential(
            conv(1, first, 5, stride=2),
            conv(first, second, 3, pool=2),
            conv(second, third, 3),
            nn.Flatten(),
            nn.Linear(third * 9, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
