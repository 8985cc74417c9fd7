"""The ops: one file each, and the table that lists them."""

from tinsmith.pipeline.ops.add import ADD
from tinsmith.pipeline.ops.conv2d import CONV2D
from tinsmith.pipeline.ops.depthwise_conv2d import DEPTHWISE_CONV2D
from tinsmith.pipeline.ops.fully_connected import FULLY_CONNECTED
from tinsmith.pipeline.ops.mean import MEAN
from tinsmith.pipeline.ops.op import OpCall, OpDef, Oracle, ScaleRule, TensorSpec, call_of
from tinsmith.pipeline.ops.pad import PAD
from tinsmith.pipeline.ops.pool2d import AVERAGE_POOL2D, MAX_POOL2D
from tinsmith.pipeline.ops.quantize import DEQUANTIZE, QUANTIZE
from tinsmith.pipeline.ops.relu import RELU, RELU6
from tinsmith.pipeline.ops.reshape import RESHAPE
from tinsmith.pipeline.ops.softmax import SOFTMAX
from tinsmith.pipeline.ops.transpose import TRANSPOSE

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
    )
}

__all__ = ["OPS", "OpCall", "OpDef", "Oracle", "ScaleRule", "TensorSpec", "call_of"]
