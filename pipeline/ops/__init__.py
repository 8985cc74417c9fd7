"""The ops: one file each, and the table that lists them."""

from tinsmith.pipeline.ops.add import ADD
from tinsmith.pipeline.ops.arg import ARG_MAX, ARG_MIN
from tinsmith.pipeline.ops.batch_matmul import BATCH_MATMUL
from tinsmith.pipeline.ops.blocks import DEPTH_TO_SPACE, SPACE_TO_DEPTH
from tinsmith.pipeline.ops.cast import CAST
from tinsmith.pipeline.ops.concatenation import CONCATENATION
from tinsmith.pipeline.ops.conv2d import CONV2D
from tinsmith.pipeline.ops.depthwise_conv2d import DEPTHWISE_CONV2D
from tinsmith.pipeline.ops.extremum import MAXIMUM, MINIMUM
from tinsmith.pipeline.ops.fully_connected import FULLY_CONNECTED
from tinsmith.pipeline.ops.gather import GATHER
from tinsmith.pipeline.ops.hard_swish import HARD_SWISH
from tinsmith.pipeline.ops.l2_normalization import L2_NORMALIZATION
from tinsmith.pipeline.ops.leaky_relu import LEAKY_RELU
from tinsmith.pipeline.ops.log_softmax import LOG_SOFTMAX
from tinsmith.pipeline.ops.logistic import LOGISTIC, TANH
from tinsmith.pipeline.ops.lstm import LSTM
from tinsmith.pipeline.ops.mean import MEAN
from tinsmith.pipeline.ops.mul import MUL
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, ScaleRule, TensorSpec, call_of
from tinsmith.pipeline.ops.pad import PAD
from tinsmith.pipeline.ops.pool2d import AVERAGE_POOL2D, MAX_POOL2D
from tinsmith.pipeline.ops.prelu import PRELU
from tinsmith.pipeline.ops.quantize import DEQUANTIZE, QUANTIZE
from tinsmith.pipeline.ops.reduce import REDUCE_MAX, REDUCE_MIN, SUM
from tinsmith.pipeline.ops.relu import RELU, RELU6, RELU_0_TO_1, RELU_N1_TO_1
from tinsmith.pipeline.ops.reshape import RESHAPE
from tinsmith.pipeline.ops.resize import RESIZE_BILINEAR, RESIZE_NEAREST
from tinsmith.pipeline.ops.slice import SLICE
from tinsmith.pipeline.ops.softmax import SOFTMAX
from tinsmith.pipeline.ops.split import SPLIT
from tinsmith.pipeline.ops.squared_difference import SQUARED_DIFFERENCE
from tinsmith.pipeline.ops.sub import SUB
from tinsmith.pipeline.ops.svdf import SVDF
from tinsmith.pipeline.ops.transpose import TRANSPOSE
from tinsmith.pipeline.ops.transpose_conv2d import TRANSPOSE_CONV2D
from tinsmith.pipeline.ops.unary import ABS, ELU, EXP, GELU, NEG, RSQRT, SQRT, SQUARE

OPS: dict[str, OpDef] = {
    op.name: op
    for op in (
        CONV2D,
        DEPTHWISE_CONV2D,
        FULLY_CONNECTED,
        ADD,
        MAX_POOL2D,
        AVERAGE_POOL2D,
        MEAN,
        PAD,
        RESHAPE,
        TRANSPOSE,
        RELU,
        RELU6,
        SOFTMAX,
        QUANTIZE,
        DEQUANTIZE,
        CONCATENATION,
        SPLIT,
        SLICE,
        SUB,
        MUL,
        MAXIMUM,
        MINIMUM,
        RELU_N1_TO_1,
        RELU_0_TO_1,
        LEAKY_RELU,
        PRELU,
        LOGISTIC,
        TANH,
        HARD_SWISH,
        SUM,
        REDUCE_MAX,
        REDUCE_MIN,
        ARG_MAX,
        ARG_MIN,
        CAST,
        RESIZE_NEAREST,
        RESIZE_BILINEAR,
        DEPTH_TO_SPACE,
        SPACE_TO_DEPTH,
        GATHER,
        BATCH_MATMUL,
        TRANSPOSE_CONV2D,
        SQUARED_DIFFERENCE,
        L2_NORMALIZATION,
        LOG_SOFTMAX,
        LSTM,
        SVDF,
        EXP,
        ELU,
        GELU,
        SQRT,
        SQUARE,
        RSQRT,
        ABS,
        NEG,
    )
}

__all__ = ["OPS", "OpCall", "OpDef", "Oracle", "ScaleRule", "TensorSpec", "call_of"]
