"""How a float graph becomes an integer graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.quantization.observers import OBSERVERS, Range

ACTIVATION_BITS = (8, 16)


@dataclass(frozen=True)
class QuantizeOptions:
    """How a float graph becomes an integer graph.

    activations: bits of the activations: 8, or 16 for TFLite's 16x8 (symmetric, int64 biases);
        the weights are int8.
    observer: how ranges follow from what calibration sees: minmax, percentile, mse or entropy.
    percentile: for the observer of that name, in (50, 100].
    per_channel: convolution weights have a scale per output channel.
    per_channel_fc: fully connected weights too.
    equalize: ranges of weights are brought in line between layers first (equalize.py).
    correct_biases: biases take back what rounding the weights shifts (bias_correction.py).
    float_io: inputs and outputs stay float32, with quantize and dequantize nodes at the borders.
    ranges: (min, max) by tensor name: learned in training, or known; they replace what is seen.
    """

    activations: int = 8
    observer: str = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    per_channel_fc: bool = False
    equalize: bool = False
    correct_biases: bool = False
    float_io: bool = False
    ranges: Mapping[str, Range] = field(default_factory=dict)

    @property
    def wide(self) -> bool:
        """Whether the activations are int16."""
        return self.activations == 16

    def __post_init__(self) -> None:
        if self.activations not in ACTIVATION_BITS:
            allowed = ", ".join(map(str, ACTIVATION_BITS))
            raise ConfigError(f"activations of {self.activations} bits; allowed: {allowed}")
        if self.observer not in OBSERVERS:
            raise ConfigError(
                f"observer '{self.observer}' does not exist; allowed: {', '.join(OBSERVERS)}"
            )
        if not 50.0 < self.percentile <= 100.0:
            raise ConfigError(f"percentile {self.percentile}; allowed: above 50, up to 100")
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ConfigError(
                    f"the range of '{name}' is [{low}, {high}]; allowed: finite, low <= high"
                )
