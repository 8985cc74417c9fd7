"""Where pairs of int16 products take fewer instructions than one product after another.

Both are sums of quantities of the layer times coefficients, fitted to the int16 layers of
bench/kernel_shapes.py on cortex-m4, half of them alone, half in one function for many layers.
Tiles make channels by twos or fours, used or not, and gather windows, borders and all, where plain
C walks what lies in the image.
"""

from __future__ import annotations

from tinsmith.pipeline.ops import OpCall


def conv2d_pays(call: OpCall) -> bool:
    """Of a convolution of one group."""
    oc, kh, kw, ic = call.input(1).shape
    images, oh, ow, _ = call.output.shape
    pixels, point = images * oh * ow, (kh, kw) == (1, 1)
    tiles = -(-pixels // 2) * -(-oc // 2)
    pairs = 9.6 * tiles * -(-kh * kw * ic // 2) + 10 * pixels * oc
    if not point or ic % 2:
        pairs += 2.6 * pixels * kh * kw * ic + 15 * pixels * kh
    rows, columns = (_inside(call, axis) for axis in (0, 1))
    plain = 4.1 * images * rows * columns * ic * oc
    plain += 3.4 * pixels * oc if point else 16 * images * rows * ow * oc
    return pairs < plain


def fully_connected_pays(call: OpCall) -> bool:
    """Of the numbers of inputs and outputs alone: rows count the same in both."""
    outputs, inputs = call.input(1).shape
    pairs = 8.8 * -(-outputs // 4) * -(-inputs // 2) + 5.9 * outputs
    return pairs < 3.3 * outputs * inputs + 5.7 * outputs


def _inside(call: OpCall, axis: int) -> int:
    """How many rows or columns of all windows along an axis lie in the image."""
    size, count = call.input(0).shape[1 + axis], call.output.shape[1 + axis]
    a, taps = call.attrs, range(call.input(1).shape[1 + axis])
    starts = (i * a.stride[axis] - a.pads[2 * axis] for i in range(count))
    return sum(0 <= start + tap * a.dilation[axis] < size for start in starts for tap in taps)
