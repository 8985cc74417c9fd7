"""The networks of the example: a teacher, and two students that become firmware."""

from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    """A 1D convolution, batch norm (which is folded into the weights later) and ReLU."""
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, stride=stride, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
    )


class Teacher(nn.Module):
    """Wide convolutions over windows [N, 6, 128]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(6, 64, 7, 2),
            nn.Dropout(0.2),
            conv(64, 96, 5, 2),
            nn.Dropout(0.2),
            conv(96, 128, 3, 1),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(128, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class SequenceTeacher(Teacher):
    """The same for windows [N, 128, 6]."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.transpose(1, 2))


class CnnStudent(nn.Module):
    """Three narrow convolutions, each of which halves the time, and their mean over time."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            conv(6, 16, 5, 2),
            conv(16, 24, 5, 2),
            conv(24, 32, 5, 2),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(32, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class LstmStudent(nn.Module):
    """An LSTM that reads four samples of a window [N, 128, 6] in a step; a layer on its mean."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(24, 24, batch_first=True)
        self.head = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.reshape(-1, 32, 24))
        return self.head(states.mean(1))
