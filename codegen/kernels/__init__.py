"""The kernels: op x instruction set -> template and plan, in a table; an earlier entry wins."""

from __future__ import annotations

from tinsmith.codegen.kernels import (
    binary,
    dsp,
    dsp_taps,
    dsp_window,
    dsp_winograd,
    elementwise,
    image,
    int16,
    joining,
    line,
    lookup,
    mac,
    movement,
    pairs,
    recurrent,
    rows,
    sums,
    wide,
)
from tinsmith.codegen.kernels.kernel import (
    Kernel,
    is_int8_of_any_weights,
    is_int8_or_int16,
    is_int16,
)

# Most specific first within an op; the entries for "c" are the plain C variants that always exist.
KERNELS: tuple[Kernel, ...] = (
    Kernel(
        "conv2d_winograd", "conv2d", "dsp", "conv2d_winograd",
        dsp_winograd.winograd_plan, dsp_winograd.winograd_when,
    ),
    Kernel("conv2d_dsp", "conv2d", "dsp", "conv2d_dsp", dsp.conv2d_plan, dsp.any_conv2d_when),
    Kernel("conv2d_pairs", "conv2d", "m3", "conv2d_pairs", pairs.conv2d_pairs_plan, dsp.conv2d_when),
    Kernel("conv2d_octets", "conv2d", "m0", "conv2d_pairs", pairs.conv2d_octets_plan, pairs.octets_when),
    Kernel("depthwise_line_m3", "depthwise_conv2d", "m3", "depthwise_line", line.line_plan, line.line_when),
    Kernel("depthwise_line_m0", "depthwise_conv2d", "m0", "depthwise_line", line.line_plan_short, line.line_when_short),
    Kernel("fully_connected_fours_m3", "fully_connected", "m3", "fully_connected_fours", line.fours_plan, line.fours_when),
    Kernel("fully_connected_fours_m0", "fully_connected", "m0", "fully_connected_fours", line.fours_plan_short, line.fours_when),
    Kernel("conv2d_c", "conv2d", "c", "conv2d_c", mac.conv2d_plan, is_int8_of_any_weights),
    Kernel("conv2d_int16", "conv2d", "c", "conv2d_int16", wide.conv2d_plan, is_int16),
    Kernel("depthwise_window_dsp", "depthwise_conv2d", "dsp", "depthwise_window_dsp", dsp_window.window_plan, dsp_window.window_when),
    Kernel("depthwise_taps_dsp", "depthwise_conv2d", "dsp", "depthwise_taps_dsp", dsp_taps.taps_plan, dsp_taps.taps_when),
    Kernel("depthwise_conv2d_c", "depthwise_conv2d", "c", "depthwise_conv2d_c", mac.depthwise_plan, is_int8_of_any_weights),
    Kernel("depthwise_conv2d_int16", "depthwise_conv2d", "c", "depthwise_int16", wide.depthwise_plan, is_int16),
    Kernel("fully_connected_dsp", "fully_connected", "dsp", "fully_connected_dsp", dsp.fully_connected_plan, dsp.is_row),
    Kernel("fully_connected_rows_dsp", "fully_connected", "dsp", "conv2d_dsp", dsp.fully_connected_plan, dsp.fully_connected_when),
    Kernel("fully_connected_c", "fully_connected", "c", "fully_connected_c", mac.fully_connected_plan, is_int8_of_any_weights),
    Kernel("fully_connected_int16", "fully_connected", "c", "fully_connected_int16", wide.fully_connected_plan, is_int16),
    Kernel("add_table", "add", "c", "table", binary.one_value_plan, binary.has_one_value),
    Kernel("add_weighted", "add", "c", "add_weighted", sums.weighted_plan, sums.weighted_when),
    Kernel("add_int16", "add", "c", "sum_int16", int16.sum_plan, int16.sum_when),
    Kernel("add_c", "add", "c", "add_c", elementwise.add_plan, is_int8_or_int16),
    Kernel("max_pool2d_c", "max_pool2d", "c", "max_pool2d_c", movement.pool_plan, is_int8_or_int16),
    Kernel("average_pool2d_c", "average_pool2d", "c", "average_pool2d_c", movement.pool_plan, is_int8_or_int16),
    Kernel("mean_c", "mean", "c", "mean_c", movement.mean_plan, is_int8_or_int16),
    Kernel("pad_c", "pad", "c", "pad_c", movement.pad_plan, is_int8_or_int16),
    Kernel("transpose_c", "transpose", "c", "transpose_c", movement.transpose_plan, is_int8_or_int16),
    Kernel("relu_table", "relu", "c", "table", elementwise.table_plan),
    Kernel("relu_int16", "relu", "c", "rescale_int16", int16.relu_plan, int16.relu_when),
    Kernel("relu_c", "relu", "c", "requantize_c", int16.plain_relu_plan, is_int16),
    Kernel("relu6_table", "relu6", "c", "table", elementwise.table_plan),
    Kernel("relu6_int16", "relu6", "c", "rescale_int16", int16.relu_plan, int16.relu_when),
    Kernel("relu6_c", "relu6", "c", "requantize_c", int16.plain_relu_plan, is_int16),
    Kernel("softmax_c", "softmax", "c", "softmax_c", elementwise.softmax_plan),
    Kernel("softmax_int16", "softmax", "c", "softmax_int16", int16.softmax_plan, is_int16),
    Kernel(
        "quantize_float", "quantize", "c", "quantize_float",
        elementwise.quantize_float_plan, elementwise.is_float_source,
    ),
    Kernel(
        "quantize_table", "quantize", "c", "table",
        elementwise.table_plan, elementwise.is_byte_table,
    ),
    Kernel("requantize_int16", "quantize", "c", "rescale_int16", int16.quantize_plan, int16.quantize_when),
    Kernel("requantize_c", "quantize", "c", "requantize_c", elementwise.requantize_plan, elementwise.is_integer),
    Kernel("dequantize_c", "dequantize", "c", "dequantize_c", elementwise.dequantize_plan, elementwise.is_integer),
    Kernel(
        "concatenation_c", "concatenation", "c", "concatenation_c",
        joining.concatenation_plan, joining.is_movable,
    ),
    Kernel("split_c", "split", "c", "split_c", joining.split_plan, joining.is_movable),
    Kernel("slice_c", "slice", "c", "slice_c", joining.slice_plan, joining.is_movable),
    Kernel("sub_table", "sub", "c", "table", binary.one_value_plan, binary.has_one_value),
    Kernel("sub_int16", "sub", "c", "sum_int16", int16.sum_plan, int16.sum_when),
    Kernel("sub_c", "sub", "c", "sub_c", binary.sub_plan, is_int8_or_int16),
    Kernel("mul_table", "mul", "c", "table", binary.one_value_plan, binary.has_one_value),
    Kernel("mul_int16", "mul", "c", "product_int16", int16.product_plan, int16.product_when),
    Kernel("mul_c", "mul", "c", "mul_c", binary.mul_plan, is_int8_or_int16),
    Kernel("maximum_table", "maximum", "c", "table", binary.one_value_plan, binary.has_one_value),
    Kernel("maximum_c", "maximum", "c", "extremum_c", binary.extremum_plan, is_int8_or_int16),
    Kernel("minimum_table", "minimum", "c", "table", binary.one_value_plan, binary.has_one_value),
    Kernel("minimum_c", "minimum", "c", "extremum_c", binary.extremum_plan, is_int8_or_int16),
    Kernel("prelu_table", "prelu", "c", "table", binary.one_value_plan, binary.has_one_value),
    Kernel("prelu_c", "prelu", "c", "prelu_c", binary.prelu_plan),
    Kernel("relu_n1_to_1_table", "relu_n1_to_1", "c", "table", elementwise.table_plan),
    Kernel("relu_0_to_1_table", "relu_0_to_1", "c", "table", elementwise.table_plan),
    Kernel("leaky_relu_table", "leaky_relu", "c", "table", elementwise.table_plan),
    Kernel("leaky_relu_int16", "leaky_relu", "c", "leaky_relu_int16", int16.leaky_relu_plan, is_int16),
    Kernel("logistic_table", "logistic", "c", "table", elementwise.table_plan),
    Kernel("logistic_int16", "logistic", "c", "logistic_int16", int16.logistic_plan, is_int16),
    Kernel("tanh_table", "tanh", "c", "table", elementwise.table_plan),
    Kernel("tanh_int16", "tanh", "c", "tanh_int16", int16.tanh_plan, is_int16),
    Kernel("hard_swish_table", "hard_swish", "c", "table", elementwise.table_plan),
    Kernel("sum_c", "sum", "c", "mean_c", rows.sum_plan, is_int8_or_int16),
    Kernel("reduce_max_c", "reduce_max", "c", "reduce_extreme_c", rows.extreme_plan, is_int8_or_int16),
    Kernel("reduce_min_c", "reduce_min", "c", "reduce_extreme_c", rows.extreme_plan, is_int8_or_int16),
    Kernel("arg_max_c", "arg_max", "c", "arg_c", rows.arg_plan, rows.is_int8_source),
    Kernel("arg_min_c", "arg_min", "c", "arg_c", rows.arg_plan, rows.is_int8_source),
    Kernel("cast_c", "cast", "c", "cast_c", lookup.cast_plan, lookup.is_cast_source),
    Kernel("resize_nearest_c", "resize_nearest", "c", "resize_nearest_c", image.resize_nearest_plan, is_int8_or_int16),
    Kernel("resize_bilinear_c", "resize_bilinear", "c", "resize_bilinear_c", image.resize_bilinear_plan, is_int8_or_int16),
    Kernel("depth_to_space_c", "depth_to_space", "c", "transpose_c", image.blocks_plan),
    Kernel("space_to_depth_c", "space_to_depth", "c", "transpose_c", image.blocks_plan),
    Kernel("gather_c", "gather", "c", "gather_c", lookup.gather_plan, is_int8_or_int16),
    Kernel("batch_matmul_c", "batch_matmul", "c", "batch_matmul_c", lookup.batch_matmul_plan),
    Kernel("batch_matmul_int16", "batch_matmul", "c", "batch_matmul_int16", wide.batch_matmul_plan, is_int16),
    Kernel("transpose_conv2d_c", "transpose_conv2d", "c", "transpose_conv2d_c", image.transpose_conv2d_plan, is_int8_of_any_weights),
    Kernel("transpose_conv2d_int16", "transpose_conv2d", "c", "transpose_conv2d_int16", wide.transpose_conv2d_plan, is_int16),
    Kernel("squared_difference_table", "squared_difference", "c", "table", binary.one_value_plan, binary.has_one_value),
    Kernel("squared_difference_int16", "squared_difference", "c", "square_int16", int16.square_plan, int16.square_when),
    Kernel("squared_difference_c", "squared_difference", "c", "squared_difference_c", lookup.squared_difference_plan, is_int8_or_int16),
    Kernel("l2_normalization_c", "l2_normalization", "c", "l2_normalization_c", rows.l2_normalization_plan),
    Kernel("log_softmax_c", "log_softmax", "c", "log_softmax_c", rows.log_softmax_plan),
    Kernel("lstm_c", "lstm", "c", "lstm_c", recurrent.lstm_plan, is_int8_or_int16),
    Kernel("svdf_c", "svdf", "c", "svdf_c", recurrent.svdf_plan),
    *(
        Kernel(f"{op}_table", op, "c", "table", elementwise.table_plan)
        for op in ("exp", "elu", "gelu", "sqrt", "square", "rsqrt", "abs", "neg")
    ),
    Kernel("exp_int16", "exp", "c", "interpolate_int16", int16.exp_plan, is_int16),
    Kernel("abs_int16", "abs", "c", "abs_int16", int16.abs_plan, is_int16),
)  # fmt: skip


def kernels_of(op: str, isa: tuple[str, ...]) -> tuple[Kernel, ...]:
    """The kernels of an op on a target, best first: by the target's order of sets, then the
    table's."""
    found = [k for k in KERNELS if k.op == op and k.isa in isa]
    return tuple(sorted(found, key=lambda k: isa.index(k.isa)))


__all__ = ["KERNELS", "Kernel", "kernels_of"]
