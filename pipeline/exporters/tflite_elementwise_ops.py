"""Writers of ops into .tflite: those that join and cut tensors, and element-by-element ops."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.exporters.tflite_file import ACTIVATIONS
from tinsmith.pipeline.graph import Activation
from tinsmith.pipeline.ops import mul

if TYPE_CHECKING:
    from tinsmith.pipeline.exporters.tflite_ops import Site, Writer


def write_concatenation(site: Site) -> None:
    options = schema.ConcatenationOptionsT(
        axis=site.call.attrs.axis, fusedActivationFunction=ACTIVATIONS[Activation.NONE]
    )
    version = site.version(1, 2, 3)
    site.sub.operator("CONCATENATION", version, options, site.inputs, site.outputs)


def write_split(site: Site) -> None:
    """SPLIT where all parts are equal, else SPLIT_V."""
    a, name = site.call.attrs, site.call.name
    # The axis of SPLIT is a scalar, that of SPLIT_V a vector of one: both runtimes take both so.
    if len(set(a.sizes)) == 1:
        axis = site.sub.constant(f"{name}/axis", np.asarray(a.axis, np.int32))
        options = schema.SplitOptionsT(numSplits=len(a.sizes))
        version = site.version(1, 2, 4)
        site.sub.operator("SPLIT", version, options, (axis, site.inputs[0]), site.outputs)
        return
    sizes = site.sub.constant(f"{name}/sizes", np.asarray(a.sizes, np.int32))
    axis = site.sub.constant(f"{name}/axis", np.asarray([a.axis], np.int32))
    inputs = (site.inputs[0], sizes, axis)
    split_v = schema.SplitVOptionsT(numSplits=len(a.sizes))
    site.sub.operator("SPLIT_V", site.version(1, 2, 1), split_v, inputs, site.outputs)


def write_slice(site: Site) -> None:
    """SLICE where each axis is contiguous, else STRIDED_SLICE."""
    a, name = site.call.attrs, site.call.name
    begin = site.sub.constant(f"{name}/begin", np.asarray(a.begin, np.int32))
    rank = len(a.begin)
    if set(a.steps) == {1}:
        size = site.sub.constant(f"{name}/size", np.asarray(a.size, np.int32))
        version = 5 if rank > 4 else site.version(1, 2, 4)
        inputs = (site.inputs[0], begin, size)
        site.sub.operator("SLICE", version, schema.SliceOptionsT(), inputs, site.outputs)
        return
    ends, mask = [], 0
    for i, (first, count, step) in enumerate(zip(a.begin, a.size, a.steps, strict=True)):
        last = first + (count - 1) * step
        ends.append(last + (1 if step > 0 else -1))
        if ends[-1] < 0:  # which would count from the back
            ends[-1], mask = 0, mask | (1 << i)
    end = site.sub.constant(f"{name}/end", np.asarray(ends, np.int32))
    stride = site.sub.constant(f"{name}/stride", np.asarray(a.steps, np.int32))
    version = 4 if rank > 4 else site.version(1, 2, 1)
    options = schema.StridedSliceOptionsT(endMask=mask)
    strided = (site.inputs[0], begin, end, stride)
    site.sub.operator("STRIDED_SLICE", version, options, strided, site.outputs)


def write_sub(site: Site) -> None:
    options = schema.SubOptionsT(
        fusedActivationFunction=ACTIVATIONS[site.call.attrs.activation], potScaleInt16=False
    )
    site.sub.operator("SUB", site.version(1, 2, 5), options, site.inputs, site.outputs)


def write_mul(site: Site) -> None:
    options = schema.MulOptionsT(fusedActivationFunction=ACTIVATIONS[site.call.attrs.activation])
    version = site.version(1, 2, 4)
    if site.is_int8 and mul.constants(site.call).output.real >= 1.0:
        version = 3
    site.sub.operator("MUL", version, options, site.inputs, site.outputs)


def write_leaky_relu(site: Site) -> None:
    options = schema.LeakyReluOptionsT(alpha=site.call.attrs.alpha)
    version = site.version(1, 2, 2)
    site.sub.operator("LEAKY_RELU", version, options, site.inputs, site.outputs)


def _plain(
    code: str, int8_version: int, options: type[Any] | None = None, int16_version: int = 1
) -> Writer:
    """An op without attributes."""

    def write(site: Site) -> None:
        version = site.version(1, int8_version, int16_version)
        made = None if options is None else options()
        site.sub.operator(code, version, made, site.inputs, site.outputs)

    return write


ELEMENTWISE_WRITERS: Mapping[str, Writer] = {
    "concatenation": write_concatenation,
    "split": write_split,
    "slice": write_slice,
    "sub": write_sub,
    "mul": write_mul,
    "maximum": _plain("MAXIMUM", 2, schema.MaximumMinimumOptionsT),
    "minimum": _plain("MINIMUM", 2, schema.MaximumMinimumOptionsT),
    "relu_n1_to_1": _plain("RELU_N1_TO_1", 1),
    "relu_0_to_1": _plain("RELU_0_TO_1", 1),
    "leaky_relu": write_leaky_relu,
    "prelu": _plain("PRELU", 1),
    "logistic": _plain("LOGISTIC", 2, None, 3),
    "tanh": _plain("TANH", 2, None, 3),
    "hard_swish": _plain("HARD_SWISH", 1, schema.HardSwishOptionsT),
}
