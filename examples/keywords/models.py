"""The two networks of the example: images of sound [1, frames, mels] to words."""

from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution, batch norm (which is folded into the weights later) and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Each channel by itself in 3 x 3, then a mixture of the channels in each place."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        *conv(inputs, outputs, 1),
    )


class Network(nn.Module):
    """Layers, the mean over time and frequency, and one linear layer."""

    def __init__(self, layers: nn.Sequential, channels: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.layers = layers
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.layers(x).mean((2, 3))))


class Teacher(Network):
    """449,000 parameters in six convolutions."""

    def __init__(self, classes: int) -> None:
        layers = nn.Sequential(
            conv(1, 24, 3, stride=2),
            conv(24, 48, 3),
            conv(48, 96, 3, stride=2),
            conv(96, 96, 3),
            conv(96, 144, 3, stride=2),
            conv(144, 144, 3),
        )
        super().__init__(layers, 144, 0.4, classes)


class Student(Network):
    """37,000 parameters: a convolution and five separable ones, like DS-CNN (Zhang 2017)."""

    def __init__(self, classes: int) -> None:
        layers = nn.Sequential(
            conv(1, 32, 5, stride=2),
            separable(32, 64, stride=2),
            separable(64, 64),
            separable(64, 96, stride=2),
            separable(96, 96),
            separable(96, 96),
        )
        super().__init__(layers, 96, 0.2, classes)
