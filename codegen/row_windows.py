"""Which rows of its inputs an op needs for some rows of its output, and the call that makes those
alone: what row streaming rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tinsmith.pipeline.graph import Tensor
from tinsmith.pipeline.ops import OpCall
from tinsmith.pipeline.ops.window import extent


@dataclass(frozen=True)
class RowWindow:
    """Output row y needs the input rows from y * stride - pad on, `span` of them; those outside
    the image are padding."""

    span: int = 1
    stride: int = 1
    pad: int = 0

    def first(self, row: int) -> int:
        """The first input row, inside the image, that output row `row` and those after it need."""
        return max(row * self.stride - self.pad, 0)

    def end(self, end: int, height: int) -> int:
        """One past the last input row that the output rows below `end` need."""
        return min((end - 1) * self.stride - self.pad + self.span, height)


SAME_ROW = RowWindow()
# fmt: off
UNARY = frozenset((
    "relu", "relu6", "relu_n1_to_1", "relu_0_to_1", "leaky_relu", "logistic", "tanh", "hard_swish",
    "exp", "elu", "gelu", "sqrt", "square", "rsqrt", "abs", "neg", "quantize", "dequantize",
    "softmax", "log_softmax", "l2_normalization",
))
# fmt: on
BINARY = frozenset(("add", "sub", "mul", "maximum", "minimum", "prelu", "squared_difference"))


def row_windows(call: OpCall) -> Mapping[int, RowWindow] | None:
    """By index, how the activations are read that an op takes row by row; it needs all of the
    others. None where the output can't be made by rows: NHWC, one image."""
    tensors = [t for t in (*call.inputs, *call.outputs) if t is not None and not t.is_constant]
    if len(call.outputs) != 1 or any(len(t.shape) != 4 or t.shape[0] != 1 for t in tensors):
        return None
    a = call.attrs
    if call.op in ("conv2d", "depthwise_conv2d"):
        rows = extent(call.input(1).shape[1], a.dilation[0])
        constant = all(t is None or t.is_constant for t in call.inputs[1:])
        return {0: RowWindow(rows, a.stride[0], a.pads[0])} if constant else None
    if call.op in ("max_pool2d", "average_pool2d"):
        return {0: RowWindow(a.kernel[0], a.stride[0], a.pads[0])}
    if call.op in UNARY:
        return {0: SAME_ROW}
    if call.op in BINARY:
        return _operands(call)
    if call.op == "concatenation" and a.axis == 3 and not any(_constants(call)):
        return dict.fromkeys(range(len(call.inputs)), SAME_ROW)
    return None


def reduces_rows(call: OpCall) -> bool:
    """Whether an op makes a single pixel, of sums over all rows of its only input."""
    x = call.inputs[0]
    if x is None or x.is_constant or len(x.shape) != 4 or x.shape[0] != 1:
        return False
    a = call.attrs
    if call.op == "mean":
        return tuple(a.axes) == (1, 2)
    return call.op == "average_pool2d" and a.kernel == x.shape[1:3] and not any(a.pads)


def _constants(call: OpCall) -> list[Tensor]:
    return [t for t in call.inputs if t is not None and t.is_constant]


def _operands(call: OpCall) -> Mapping[int, RowWindow] | None:
    """Operands of the output's height go row by row, others serve every row as they are."""
    height = call.output.shape[1]
    for tensor in _constants(call):
        if len(tensor.shape) >= 3 and tensor.shape[-3] != 1:
            return None
    found = {}
    for i, operand in enumerate(call.inputs):
        if operand is not None and not operand.is_constant and operand.shape[1] == height:
            found[i] = SAME_ROW
    return found or None


def part_of(
    call: OpCall, windows: Mapping[int, RowWindow], begin: int, end: int
) -> tuple[OpCall, dict[int, tuple[int, int]]] | None:
    """The call that makes the output rows begin to end - 1 from the input rows that they need, and
    these as (first, end) by input. None where a window lies in the padding alone."""
    inputs = list(call.inputs)
    rows = {}
    attrs = call.attrs
    for i, window in windows.items():
        tensor = call.input(i)
        height = tensor.shape[1]
        first, stop = window.first(begin), window.end(end, height)
        if first >= stop:
            return None
        rows[i] = first, stop
        inputs[i] = _rows(tensor, stop - first)
        if hasattr(attrs, "pads"):
            top = max(window.pad - begin * window.stride, 0)
            bottom = max((end - 1) * window.stride - window.pad + window.span - height, 0)
            attrs = replace(attrs, pads=(top, bottom, *attrs.pads[2:]))
    output = _rows(call.output, end - begin)
    return replace(call, attrs=attrs, inputs=tuple(inputs), outputs=(output,)), rows


def _rows(tensor: Tensor, count: int) -> Tensor:
    return replace(tensor, shape=(1, count, *tensor.shape[2:]))
