"""Quantization after training: observers, calibration, and the integer graph."""

from tinsmith.pipeline.quantization.calibrate import calibrate, check_samples
from tinsmith.pipeline.quantization.observers import OBSERVERS
from tinsmith.pipeline.quantization.options import QuantizeOptions
from tinsmith.pipeline.quantization.quantize import quantize, tensors_without_range

__all__ = [
    "OBSERVERS",
    "QuantizeOptions",
    "calibrate",
    "check_samples",
    "quantize",
    "tensors_without_range",
]
