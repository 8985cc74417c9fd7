"""Quantization after training: observers, calibration, and the integer graph."""

from tinsmith.pipeline.quantization.calibrate import calibrate, check_samples
from tinsmith.pipeline.quantization.grids import WEIGHT_GRIDS
from tinsmith.pipeline.quantization.observers import OBSERVERS
from tinsmith.pipeline.quantization.options import QuantizeOptions
from tinsmith.pipeline.quantization.precision import PrecisionPlan, plan_precision
from tinsmith.pipeline.quantization.quantize import quantize, tensors_without_range

__all__ = [
    "OBSERVERS",
    "WEIGHT_GRIDS",
    "PrecisionPlan",
    "QuantizeOptions",
    "calibrate",
    "check_samples",
    "plan_precision",
    "quantize",
    "tensors_without_range",
]
