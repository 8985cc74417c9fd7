"""How a float graph becomes an integer graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tinsmith.pipeline.errors import ConfigError
from tinsmith.pipeline.quantization.grids import WEIGHT_GRIDS
from tinsmith.pipeline.quantization.observers import OBSERVERS, Range
from tinsmith.pipeline.quantization.parameters import WeightRule

# Told in a line what is being done, and which fraction of it is done.
Progress = Callable[[str, float], None]

ACTIVATION_BITS = (8, 16)
ROUNDINGS = ("nearest", "adaround")


@dataclass(frozen=True)
class QuantizeOptions:
    """How a float graph becomes an integer graph.

    activations: bits of the activations: 8, or 16 for TFLite's 16x8 (symmetric, int64 biases).
    weights: the grid of the weights: int8, int4, int2, ternary or binary (grids.py). The graph
        holds them as int8 whatever it is.
    layers: the grid of single layers, by node name, which goes before `weights`.
    int8_ends: the first and the last layer with weights stay int8, unless `layers` names them.
    symmetric: the zero points of activations are 0, but for inputs and what an op fixes; int16 ones
        always are.
    power_of_two: scales of weights and activations are powers of two.
    rounding: of the weights: nearest, or adaround, which learns it on the samples
        (training/adaround.py).
    seed: for what is drawn at random, which is adaround's order of samples.
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
    weights: str = "int8"
    layers: Mapping[str, str] = field(default_factory=dict)
    int8_ends: bool = False
    symmetric: bool = False
    power_of_two: bool = False
    rounding: str = "nearest"
    seed: int = 0
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

    @property
    def plain_weights(self) -> bool:
        """Whether weights are int8 rounded to the nearest, as carried ones are."""
        grids = {self.weights, *self.layers.values()}
        return grids == {"int8"} and self.rounding == "nearest" and not self.power_of_two

    def rule_of(self, node: str) -> WeightRule:
        """How the weights of a node become integers."""
        return WeightRule(WEIGHT_GRIDS[self.layers.get(node, self.weights)], self.power_of_two)

    def __post_init__(self) -> None:
        if self.activations not in ACTIVATION_BITS:
            allowed = ", ".join(map(str, ACTIVATION_BITS))
            raise ConfigError(f"activations of {self.activations} bits; allowed: {allowed}")
        self._check_weights()
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

    def _check_weights(self) -> None:
        if self.rounding not in ROUNDINGS:
            raise ConfigError(
                f"rounding '{self.rounding}' does not exist; allowed: {', '.join(ROUNDINGS)}"
            )
        uniform = [name for name, grid in WEIGHT_GRIDS.items() if grid.uniform]
        for name in (self.weights, *self.layers.values()):
            if name not in WEIGHT_GRIDS:
                raise ConfigError(
                    f"weights '{name}' do not exist; allowed: {', '.join(WEIGHT_GRIDS)}"
                )
            if self.rounding == "adaround" and name not in uniform:
                raise ConfigError(
                    f"rounding 'adaround' chooses between two neighbouring integers, which weights "
                    f"'{name}' don't have; allowed with it: {', '.join(uniform)}"
                )
