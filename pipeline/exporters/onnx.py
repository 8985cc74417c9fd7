"""Int8 graphs as ONNX: every tensor between QuantizeLinear and DequantizeLinear.

Images are NCHW, as ONNX has them; inputs and outputs are float32. read_onnx gives back the same
parameters. Other runtimes may differ by one in some values, since they round in float.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.onnx_ops import WRITERS
from tinsmith.pipeline.exporters.onnx_site import TO_NCHW, Site, Writer
from tinsmith.pipeline.graph import DType, Graph, Tensor
from tinsmith.pipeline.ops.mac import is_as_uint8
from tinsmith.pipeline.ops.op import call_of

OPSET = 20
IR_VERSION = 9


def to_onnx_qdq(graph: Graph) -> bytes:
    """An ONNX model (opset 20) of an int8 graph, in QDQ form.

    Raises UnsupportedModel with every op that has no ONNX form here, and for int16 activations.
    """
    reasons = [
        f"{n.op} '{n.name}': not exported to ONNX; allowed: {', '.join(sorted(WRITERS))}"
        for n in graph.nodes
        if n.op not in WRITERS
    ]
    wide = [t.name for t in graph.tensors.values() if t.dtype is DType.INT16]
    if wide:
        reasons.append(
            f"'{wide[0]}' is int16: layers on int16 have int64 biases, which DequantizeLinear "
            "does not take; allowed: int8"
        )
    reasons += [
        f"{n.op} '{n.name}': it computes as TFLite's uint8 kernel does, for which ONNX has no form"
        for n in graph.nodes
        if is_as_uint8(call_of(graph, n))
    ]
    if graph.state:
        reasons.append("the graph has state, which ONNX has not")
    if reasons:
        raise UnsupportedModel("\n".join(reasons))
    writer = Writer(graph, taken={*graph.inputs, *graph.outputs})
    inputs = [_write_input(writer, graph.tensors[name]) for name in graph.inputs]
    for node in graph.nodes:
        call = call_of(graph, node)
        values = WRITERS[node.op](Site(writer, call, node))
        for value, out in zip(
            (values,) if isinstance(values, str) else values, call.outputs, strict=True
        ):
            writer.real[out.name] = value if out.quant is None else writer.between(value, out)
    outputs = [_write_output(writer, graph.tensors[name]) for name in graph.outputs]
    proto = helper.make_graph(
        writer.nodes, graph.name, inputs, outputs, list(writer.constants.values())
    )
    model = helper.make_model(
        proto,
        producer_name="tinsmith",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _onnx_shape(tensor: Tensor) -> list[int]:
    shape = list(tensor.shape)
    return [shape[i] for i in TO_NCHW] if len(shape) == 4 else shape


def _write_input(writer: Writer, t: Tensor) -> onnx.ValueInfoProto:
    writer.real[t.name] = t.name if t.quant is None else writer.between(t.name, t)
    return helper.make_tensor_value_info(t.name, _onnx_type(t), _onnx_shape(t))


def _onnx_type(t: Tensor) -> int:
    kind = np.dtype(np.float32) if t.quant is not None else t.dtype.numpy
    return int(helper.np_dtype_to_tensor_dtype(kind))


def _write_output(writer: Writer, t: Tensor) -> onnx.ValueInfoProto:
    source = writer.real[t.name]
    if source != t.name:
        writer.nodes.append(helper.make_node("Identity", [source], [t.name], name=f"{t.name}_out"))
    return helper.make_tensor_value_info(t.name, _onnx_type(t), _onnx_shape(t))
