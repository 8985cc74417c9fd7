"""What is supported, op by op: the facts behind `tinsmith ops` and docs/operators.md.

`python -m tinsmith.pipeline.operators_page > docs/operators.md` writes the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinsmith.codegen.kernels import KERNELS
from tinsmith.pipeline.exporters.onnx_ops import WRITERS as ONNX_WRITERS
from tinsmith.pipeline.exporters.tflite_ops import WRITERS as TFLITE_WRITERS
from tinsmith.pipeline.ops import OPS

# The operators of .tflite that become each op.
TFLITE_SOURCES: Mapping[str, tuple[str, ...]] = {
    "conv2d": ("CONV_2D",),
    "depthwise_conv2d": ("DEPTHWISE_CONV_2D",),
    "fully_connected": ("FULLY_CONNECTED",),
    "add": ("ADD",),
    "max_pool2d": ("MAX_POOL_2D",),
    "average_pool2d": ("AVERAGE_POOL_2D",),
    "mean": ("MEAN",),
    "pad": ("PAD", "PADV2"),
    "reshape": ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"),
    "transpose": ("TRANSPOSE",),
    "relu": ("RELU",),
    "relu6": ("RELU6",),
    "softmax": ("SOFTMAX",),
    "quantize": ("QUANTIZE",),
    "dequantize": ("DEQUANTIZE",),
    "concatenation": ("CONCATENATION", "PACK"),
    "split": ("SPLIT", "SPLIT_V", "UNPACK"),
    "slice": ("SLICE", "STRIDED_SLICE"),
    "sub": ("SUB",),
    "mul": ("MUL",),
    "maximum": ("MAXIMUM",),
    "minimum": ("MINIMUM",),
    "relu_n1_to_1": ("RELU_N1_TO_1",),
    "relu_0_to_1": ("RELU_0_TO_1",),
    "leaky_relu": ("LEAKY_RELU",),
    "prelu": ("PRELU",),
    "logistic": ("LOGISTIC",),
    "tanh": ("TANH",),
    "hard_swish": ("HARD_SWISH",),
    "sum": ("SUM",),
    "reduce_max": ("REDUCE_MAX",),
    "reduce_min": ("REDUCE_MIN",),
    "arg_max": ("ARG_MAX",),
    "arg_min": ("ARG_MIN",),
    "cast": ("CAST",),
    "resize_nearest": ("RESIZE_NEAREST_NEIGHBOR",),
    "resize_bilinear": ("RESIZE_BILINEAR",),
    "depth_to_space": ("DEPTH_TO_SPACE",),
    "space_to_depth": ("SPACE_TO_DEPTH",),
    "gather": ("GATHER", "EMBEDDING_LOOKUP"),
    "batch_matmul": ("BATCH_MATMUL",),
    "transpose_conv2d": ("TRANSPOSE_CONV",),
    "squared_difference": ("SQUARED_DIFFERENCE",),
    "l2_normalization": ("L2_NORMALIZATION",),
    "log_softmax": ("LOG_SOFTMAX",),
    "lstm": ("UNIDIRECTIONAL_SEQUENCE_LSTM",),
    "svdf": ("SVDF",),
    "exp": ("EXP",),
    "elu": ("ELU",),
    "gelu": ("GELU",),
    "sqrt": ("SQRT",),
    "square": ("SQUARE",),
    "rsqrt": ("RSQRT",),
    "abs": ("ABS",),
    "neg": ("NEG",),
}
# Those that become no op: variables become state, a sparse constant a dense one.
TFLITE_WITHOUT_OP: Mapping[str, str] = {
    "CALL_ONCE": "what the state starts from",
    "VAR_HANDLE": "state",
    "READ_VARIABLE": "state",
    "ASSIGN_VARIABLE": "state",
    "DENSIFY": "a dense constant",
}

# The ONNX ops that become each op; some ops come only as parts of others.
ONNX_SOURCES: Mapping[str, tuple[str, ...]] = {
    "conv2d": ("Conv", "QLinearConv"),
    "depthwise_conv2d": ("Conv", "QLinearConv"),
    "fully_connected": ("Gemm", "MatMul", "QGemm", "QLinearMatMul"),
    "add": ("Add", "Sum", "QLinearAdd"),
    "max_pool2d": ("MaxPool",),
    "average_pool2d": ("AveragePool", "QLinearAveragePool"),
    "mean": ("ReduceMean", "GlobalAveragePool", "QLinearGlobalAveragePool"),
    "pad": ("Pad",),
    "reshape": ("Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    "transpose": ("Transpose",),
    "relu": ("Relu",),
    "relu6": ("Clip",),
    "softmax": ("Softmax", "QLinearSoftmax"),
    "quantize": ("QuantizeLinear",),
    "dequantize": ("DequantizeLinear",),
    "concatenation": ("Concat", "QLinearConcat"),
    "split": ("Split",),
    "slice": ("Slice",),
    "sub": ("Sub",),
    "mul": ("Mul", "Div", "QLinearMul"),
    "maximum": ("Max", "Clip"),
    "minimum": ("Min", "Clip"),
    "relu_n1_to_1": ("Clip",),
    "relu_0_to_1": ("Clip",),
    "leaky_relu": ("LeakyRelu", "QLinearLeakyRelu"),
    "prelu": ("PRelu",),
    "logistic": ("Sigmoid", "QLinearSigmoid"),
    "tanh": ("Tanh",),
    "hard_swish": ("HardSwish",),
    "sum": ("ReduceSum",),
    "reduce_max": ("ReduceMax", "GlobalMaxPool"),
    "reduce_min": ("ReduceMin",),
    "arg_max": ("ArgMax",),
    "arg_min": ("ArgMin",),
    "cast": ("Cast",),
    "resize_nearest": ("Resize",),
    "resize_bilinear": ("Resize",),
    "depth_to_space": ("DepthToSpace",),
    "space_to_depth": ("SpaceToDepth",),
    "gather": ("Gather",),
    "batch_matmul": ("MatMul",),
    "transpose_conv2d": ("ConvTranspose",),
    "l2_normalization": ("LpNormalization",),
    "log_softmax": ("LogSoftmax",),
    "lstm": ("LSTM",),
    "exp": ("Exp",),
    "elu": ("Elu",),
    "gelu": ("Gelu",),
    "sqrt": ("Sqrt",),
    "square": ("Pow",),
    "abs": ("Abs",),
    "neg": ("Neg",),
}
# Those that become no op, or several.
ONNX_OTHERS: Mapping[str, str] = {
    "BatchNormalization": "folded into the layer before, or mul and add",
    "LayerNormalization": "mean, squared_difference, rsqrt, mul and add",
    "HardSigmoid": "mul, add and a clamp",
    "Expand": "where it changes nothing, or of a constant",
    "Identity": "nothing",
    "Dropout": "nothing",
    "Shape": "a constant",
}


@dataclass(frozen=True)
class OpFacts:
    """Of an op: the importers that give it, the exporters that write it, its kernels, its oracle.

    kernels: all variants that C is generated from, best first; none for an op that moves nothing.
    int16: who defines it on int16 activations; empty where it is refused.
    """

    name: str
    title: str
    tflite: tuple[str, ...]
    onnx: tuple[str, ...]
    to_tflite: bool
    to_onnx: bool
    kernels: tuple[str, ...]
    oracle: str
    int16: str
    scale_rule: str


def op_facts() -> tuple[OpFacts, ...]:
    """The facts of every op, in the order of the table OPS."""
    return tuple(
        OpFacts(
            op.name,
            op.title,
            TFLITE_SOURCES.get(op.name, ()),
            ONNX_SOURCES.get(op.name, ()),
            op.name in TFLITE_WRITERS,
            op.name in ONNX_WRITERS,
            tuple(k.name for k in KERNELS if k.op == op.name),
            op.oracle.value,
            "" if op.int16 is None else op.int16.value,
            op.scale_rule.value,
        )
        for op in OPS.values()
    )


_HEAD = """# Operators

Written by `python -m tinsmith.pipeline.operators_page > docs/operators.md`; do not edit.

Every op is computed by the interpreter in float and as int8, and has a kernel in plain C for int8;
kernels whose name ends in another instruction set come first on the cores that have it. The column
"defined by" names the runtime whose int8 arithmetic is ours, byte for byte; an op with an own
definition has an error bound against real arithmetic in the tests. `reshape` costs nothing: its
output is its input under another shape.

The last column does the same for TFLite's "int16x8": int16 activations with the zero point 0, int8
weights, int64 biases. Where it is empty, neither runtime has the op on int16 and it is refused.
"""


def page() -> str:
    """The page docs/operators.md."""
    lines = [_HEAD]
    heads = (
        "op", "from .tflite", "from ONNX", "to .tflite", "to ONNX", "kernels", "defined by",
        "int16x8",
    )  # fmt: skip
    lines += [_row(heads), _row(["---"] * len(heads))]
    for f in op_facts():
        cells = [
            f"`{f.name}`: {f.title}",
            ", ".join(f.tflite) or "-",
            ", ".join(f.onnx) or "-",
            "yes" if f.to_tflite else "-",
            "yes" if f.to_onnx else "-",
            ", ".join(f"`{k}`" for k in f.kernels) or "none needed",
            f.oracle,
            f.int16 or "-",
        ]
        lines.append(_row(cells))
    lines += ["", "Scales of outputs:", ""]
    rules: dict[str, list[str]] = {}
    for f in op_facts():
        rules.setdefault(f.scale_rule, []).append(f"`{f.name}`")
    lines += [f"- {rule}: {', '.join(names)}" for rule, names in rules.items()]
    lines += ["", "What becomes no op of its own:", ""]
    others = [(".tflite", n, to) for n, to in TFLITE_WITHOUT_OP.items()]
    others += [("ONNX", n, to) for n, to in ONNX_OTHERS.items()]
    lines += [f"- {kind} {name}: {to}" for kind, name, to in others]
    return "\n".join(lines) + "\n"


def _row(cells: tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


if __name__ == "__main__":
    print(page(), end="")
