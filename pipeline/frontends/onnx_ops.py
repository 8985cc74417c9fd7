"""The ONNX ops that are imported, each with the function that does it."""

from __future__ import annotations

from collections.abc import Callable

from tinsmith.pipeline.frontends import onnx_elementwise as elementwise
from tinsmith.pipeline.frontends import onnx_matrix as matrix
from tinsmith.pipeline.frontends import onnx_quantized as quantized
from tinsmith.pipeline.frontends import onnx_shape as shape
from tinsmith.pipeline.frontends import onnx_window as window
from tinsmith.pipeline.frontends.onnx_context import Context, Value
from tinsmith.pipeline.frontends.onnx_file import OnnxNode

# Gives the value of the first output (a tuple where several are used), or raises Refused.
Importer = Callable[[Context, OnnxNode], Value | tuple[Value, ...]]

IMPORTERS: dict[str, Importer] = {
    "Conv": window.conv,
    "BatchNormalization": window.batch_normalization,
    "MaxPool": window.max_pool,
    "AveragePool": window.average_pool,
    "GlobalAveragePool": elementwise.global_average_pool,
    "GlobalMaxPool": window.global_max_pool,
    "Gemm": matrix.gemm,
    "MatMul": matrix.matmul,
    "Relu": elementwise.relu,
    "Clip": elementwise.clip,
    "Add": elementwise.add,
    "Softmax": elementwise.softmax,
    "ReduceMean": elementwise.reduce_mean,
    "Identity": shape.identity,
    "Dropout": shape.dropout,
    "Shape": shape.shape,
    "Flatten": shape.flatten,
    "Reshape": shape.reshape,
    "Squeeze": shape.squeeze,
    "Unsqueeze": shape.unsqueeze,
    "Transpose": shape.transpose,
    "Pad": shape.pad,
    "QuantizeLinear": quantized.quantize_linear,
    "DequantizeLinear": quantized.dequantize_linear,
    "QLinearConv": quantized.qlinear_conv,
    "QLinearMatMul": quantized.qlinear_matmul,
}

# The ops of onnxruntime's own domain, com.microsoft, that its quantizer writes.
MICROSOFT_IMPORTERS: dict[str, Importer] = {
    "QuantizeLinear": quantized.quantize_linear,
    "DequantizeLinear": quantized.dequantize_linear,
    "QGemm": quantized.qgemm,
    "QLinearAdd": quantized.qlinear_add,
    "QLinearAveragePool": quantized.qlinear_average_pool,
    "QLinearGlobalAveragePool": quantized.qlinear_global_average_pool,
}


def importer_of(node: OnnxNode) -> Importer | None:
    """The function that imports a node, or None where its op is not supported."""
    tables = {"": IMPORTERS, "com.microsoft": MICROSOFT_IMPORTERS}
    return tables.get(node.domain, {}).get(node.op)
