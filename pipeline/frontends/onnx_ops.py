"""The ONNX ops that are imported, each with the function that does it."""

from __future__ import annotations

from collections.abc import Callable

from tinsmith.pipeline.frontends import onnx_activation as activation
from tinsmith.pipeline.frontends import onnx_elementwise as elementwise
from tinsmith.pipeline.frontends import onnx_image as image
from tinsmith.pipeline.frontends import onnx_matrix as matrix
from tinsmith.pipeline.frontends import onnx_quantized as quantized
from tinsmith.pipeline.frontends import onnx_recurrent as recurrent
from tinsmith.pipeline.frontends import onnx_reduce as reduce
from tinsmith.pipeline.frontends import onnx_select as select
from tinsmith.pipeline.frontends import onnx_shape as shape
from tinsmith.pipeline.frontends import onnx_window as window
from tinsmith.pipeline.frontends.onnx_context import Context, Value
from tinsmith.pipeline.frontends.onnx_file import OnnxNode

# Gives the value of the first output (a tuple where several are used), or raises Refused.
Importer = Callable[[Context, OnnxNode], Value | tuple[Value, ...]]

IMPORTERS: dict[str, Importer] = {
    "Conv": window.conv,
    "ConvTranspose": image.conv_transpose,
    "BatchNormalization": window.batch_normalization,
    "MaxPool": window.max_pool,
    "AveragePool": window.average_pool,
    "GlobalAveragePool": reduce.global_average_pool,
    "GlobalMaxPool": window.global_max_pool,
    "Resize": image.resize,
    "DepthToSpace": image.depth_to_space,
    "SpaceToDepth": image.space_to_depth,
    "LSTM": recurrent.lstm,
    "Gemm": matrix.gemm,
    "MatMul": matrix.matmul,
    **dict.fromkeys(activation.UNARY, activation.unary),
    "Clip": activation.clip,
    "LeakyRelu": activation.leaky_relu,
    "PRelu": activation.prelu,
    "Elu": activation.elu,
    "Gelu": activation.gelu,
    "HardSigmoid": activation.hard_sigmoid,
    "Softmax": activation.softmax,
    "LogSoftmax": activation.log_softmax,
    "LpNormalization": activation.lp_normalization,
    "LayerNormalization": activation.layer_normalization,
    "Add": elementwise.add,
    "Sub": elementwise.sub,
    "Mul": elementwise.mul,
    "Div": elementwise.div,
    "Pow": elementwise.power,
    "Min": elementwise.minimum,
    "Max": elementwise.maximum,
    "Sum": elementwise.total,
    **dict.fromkeys(reduce.REDUCTIONS, reduce.reduction),
    "ArgMax": reduce.arg_extremum("arg_max"),
    "ArgMin": reduce.arg_extremum("arg_min"),
    "Concat": select.concat,
    "Split": select.split,
    "Slice": select.slice_,
    "Gather": select.gather,
    "Cast": select.cast,
    "Expand": select.expand,
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
    "QLinearMul": quantized.qlinear_mul,
    "QLinearConcat": quantized.qlinear_concat,
    "QLinearSigmoid": quantized.qlinear_sigmoid,
    "QLinearLeakyRelu": quantized.qlinear_leaky_relu,
    "QLinearSoftmax": quantized.qlinear_softmax,
    "QLinearAveragePool": quantized.qlinear_average_pool,
    "QLinearGlobalAveragePool": quantized.qlinear_global_average_pool,
}


def importer_of(node: OnnxNode) -> Importer | None:
    """The function that imports a node, or None where its op is not supported."""
    tables = {"": IMPORTERS, "com.microsoft": MICROSOFT_IMPORTERS}
    return tables.get(node.domain, {}).get(node.op)
