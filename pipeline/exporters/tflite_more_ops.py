"""Writers of ops into .tflite: reductions, images, tables, lookups, and the layers with a state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.exporters.tflite_file import ACTIVATIONS, TENSOR_TYPES, zero_bias
from tinsmith.pipeline.graph import Activation, DType, Graph, QuantParams, StateVar, Tensor
from tinsmith.pipeline.ops import lstm, svdf, window

if TYPE_CHECKING:
    from tinsmith.pipeline.exporters.tflite_ops import Site, Writer


def _plain(code: str, options: str | None, int8_version: int = 2) -> Writer:
    """An op without attributes."""

    def write(site: Site) -> None:
        made = None if options is None else getattr(schema, options)()
        version = site.version(1, int8_version, int8_version)
        site.sub.operator(code, version, made, site.inputs, site.outputs)

    return write


def _float_only(code: str, options: str | None, before: str | None = None) -> Writer:
    """An op that .tflite has in float alone: int8 goes by way of DEQUANTIZE and QUANTIZE.

    before: an op that brings what would be outside the domain into it.
    """

    def write(site: Site) -> None:
        sub, call, made = site.sub, site.call, None
        if options is not None:
            made = getattr(schema, options)()
        if not site.is_int8:
            sub.operator(code, 1, made, site.inputs, site.outputs)
            return

        def real(what: str) -> int:
            like = Tensor(what, call.output.shape, DType.FLOAT32)
            return sub.temporary(f"{call.output.name}/{what}", like, like.shape)

        x = real("input")
        sub.operator("DEQUANTIZE", 2, schema.DequantizeOptionsT(), site.inputs, (x,))
        if before is not None:
            inside = real("domain")
            sub.operator(before, 1, None, (x,), (inside,))
            x = inside
        y = real("output")
        sub.operator(code, 1, made, (x,), (y,))
        sub.operator("QUANTIZE", 1, schema.QuantizeOptionsT(), (y,), site.outputs)

    return write


def _reducer(code: str) -> Writer:
    def write(site: Site) -> None:
        a = site.call.attrs
        axes = site.sub.constant(f"{site.call.name}/axes", np.asarray(a.axes, np.int32))
        options = schema.ReducerOptionsT(keepDims=a.keep_dims)
        version = site.version(1, 2, 2 if code == "SUM" else 3)
        site.sub.operator(code, version, options, (site.inputs[0], axes), site.outputs)

    return write


def _arg(code: str, options: str) -> Writer:
    def write(site: Site) -> None:
        a = site.call.attrs
        axis = site.sub.constant(f"{site.call.name}/axis", np.asarray(a.axis, np.int32).reshape(1))
        made = getattr(schema, options)(outputType=TENSOR_TYPES[a.dtype])
        version = 2 if site.is_int8 else 1
        site.sub.operator(code, version, made, (site.inputs[0], axis), site.outputs)

    return write


def write_cast(site: Site) -> None:
    kinds = (TENSOR_TYPES[site.call.input(0).dtype], TENSOR_TYPES[site.call.attrs.dtype])
    options = schema.CastOptionsT(inDataType=kinds[0], outDataType=kinds[1])
    site.sub.operator("CAST", 1, options, site.inputs, site.outputs)


def _resize(code: str, options: str) -> Writer:
    def write(site: Site) -> None:
        a = site.call.attrs
        size = site.sub.constant(f"{site.call.name}/size", np.asarray(a.size, np.int32))
        made = getattr(schema, options)(
            alignCorners=a.align_corners, halfPixelCenters=a.half_pixel_centers
        )
        version = 3 if a.align_corners or a.half_pixel_centers else site.version(1, 2, 4)
        site.sub.operator(code, version, made, (site.inputs[0], size), site.outputs)

    return write


def _blocks(code: str, options: str) -> Writer:
    def write(site: Site) -> None:
        made = getattr(schema, options)(blockSize=site.call.attrs.block)
        version = 2 if site.is_int8 and code == "SPACE_TO_DEPTH" else 1
        site.sub.operator(code, version, made, site.inputs, site.outputs)

    return write


def write_gather(site: Site) -> None:
    options = schema.GatherOptionsT(axis=site.call.attrs.axis, batchDims=0)
    site.sub.operator("GATHER", site.version(1, 2, 4), options, site.inputs, site.outputs)


def write_batch_matmul(site: Site) -> None:
    a = site.call.attrs
    options = schema.BatchMatMulOptionsT(adjX=a.adjoint_a, adjY=a.adjoint_b)
    site.sub.operator("BATCH_MATMUL", site.version(1, 2, 3), options, site.inputs, site.outputs)


def write_transpose_conv2d(site: Site) -> None:
    """SAME or VALID, whichever has these top and left pads; the others follow from the size."""
    call, a = site.call, site.call.attrs
    kernel, size = call.input(1).shape[1:3], call.output.shape[1:3]
    same = window.same_pads((size[0], size[1]), (kernel[0], kernel[1]), a.stride)
    start = (a.pads[0], a.pads[2])
    if start not in ((0, 0), (same[0], same[2])):
        raise UnsupportedModel(
            f"transpose_conv2d '{call.name}': pads {a.pads} have no counterpart in .tflite; "
            f"allowed: (0, ., 0, .) or ({same[0]}, ., {same[2]}, .)"
        )
    padding = schema.Padding.VALID if start == (0, 0) else schema.Padding.SAME
    shape = site.sub.constant(f"{call.name}/shape", np.asarray(call.output.shape, np.int32))
    options = schema.TransposeConvOptionsT(
        padding=padding,
        strideH=a.stride[0],
        strideW=a.stride[1],
        fusedActivationFunction=ACTIVATIONS[a.activation],
    )
    bias = site.inputs[2:3]
    if call.optional(2) is None:
        wide = call.input(0).dtype is DType.INT16
        bias = (zero_bias(site.sub, call, call.input(1).shape[0]),) if wide else ()
    version = 3 if bias else site.version(1, 2, 3)
    if a.activation is not Activation.NONE:
        version = 4
    inputs = [shape, site.inputs[1], site.inputs[0], *bias]
    site.sub.operator("TRANSPOSE_CONV", version, options, inputs, site.outputs)


def write_gelu(site: Site) -> None:
    options = schema.GeluOptionsT(approximate=site.call.attrs.approximate)
    site.sub.operator("GELU", 2 if site.is_int8 else 1, options, site.inputs, site.outputs)


# Layers with a state, which .tflite keeps in variable tensors

STATE_INPUTS = {"lstm": (lstm.HIDDEN, lstm.CELL), "svdf": (svdf.STATE,)}


def node_states(graph: Graph) -> tuple[StateVar, ...]:
    """The state that one lstm or svdf node reads and writes: a variable tensor of that node."""
    found = []
    for var in graph.state:
        readers = graph.consumers(var.tensor)
        if len(readers) != 1 or readers[0].op not in STATE_INPUTS:
            continue
        node = readers[0]
        pairs = zip(STATE_INPUTS[node.op], node.outputs[1:], strict=True)
        if (var.tensor, var.next) in ((node.inputs[i], out) for i, out in pairs):
            found.append(var)
    return tuple(found)


def is_read(graph: Graph, tensor: str) -> bool:
    """Whether a tensor is an output, or an input of a node."""
    return bool(graph.consumers(tensor)) or tensor in graph.outputs


def check_states(graph: Graph) -> list[str]:
    """Reasons why the state of an lstm or svdf can't stay inside its node."""
    kept = node_states(graph)
    inside, after = {v.tensor for v in kept}, {v.next for v in kept}
    reasons = []
    for node in graph.nodes:
        label = f"{node.op} '{node.name}'"
        for i in STATE_INPUTS.get(node.op, ()):
            name = node.inputs[i]
            if name not in inside and not graph.tensors[name].is_constant:
                reasons.append(f"{label}: its state '{name}' comes from elsewhere; .tflite keeps "
                               "it inside the layer")  # fmt: skip
        for i, name in enumerate(node.outputs[1:] if node.op in STATE_INPUTS else ()):
            # The hidden state is the last output, which can be had outside.
            used = is_read(graph, name) and (node.op, i) != ("lstm", 0)
            other = any(s.next == name for s in graph.state) and name not in after
            if used or other:
                reasons.append(f"{label}: its state '{name}' is used elsewhere; .tflite keeps "
                               "it inside the layer")  # fmt: skip
    for var in kept:
        if not starts_at_zero(graph.tensors[var.tensor], var.initial):
            reasons.append(f"state '{var.name}' does not start at 0, as .tflite's variables do")
    return reasons


def starts_at_zero(tensor: Tensor, initial: Any) -> bool:
    zero = 0 if tensor.quant is None else tensor.zero_point
    return bool(np.all(initial == zero))


def _state_input(site: Site, i: int) -> int:
    """The variable tensor of a state; a constant one gets a variable, which starts at 0 like it.

    Its runtime keeps it from call to call: reset it where sequences shall start afresh.
    """
    state = site.call.input(i)
    if state.data is None:
        return site.inputs[i]
    if not starts_at_zero(state, state.data):
        raise UnsupportedModel(
            f"{site.call.op} '{site.call.name}': its first state is not 0; .tflite's variables "
            "start at 0"
        )
    return site.sub.variable(f"{site.call.name}/state_{i}", state)


def write_lstm(site: Site) -> None:
    a, ins = site.call.attrs, site.inputs
    options = schema.UnidirectionalSequenceLSTMOptionsT(
        fusedActivationFunction=schema.ActivationFunctionType.TANH,
        cellClip=a.cell_clip,
        projClip=0.0,
        timeMajor=a.time_major,
    )
    state = (_state_input(site, lstm.HIDDEN), _state_input(site, lstm.CELL))
    # No peepholes after the weights, no projection before the state, no layer norm behind it.
    inputs = (*ins[:9], *(-1,) * 3, *ins[9:13], *(-1,) * 2, *state, *(-1,) * 4)
    version = site.version(1, 3, 3)
    code = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    hints = _intermediates(site) if site.call.output.dtype.is_integer else ()
    site.sub.operator(code, version, options, inputs, site.outputs[:1], hints)
    if site.outputs[1] >= 0:
        _write_last_step(site)


def _write_last_step(site: Site) -> None:
    """The hidden state as a sequence ends: the output's last step."""
    call, sub = site.call, site.sub
    y, hidden = call.output, call.outputs[1]
    s, time = lstm.sizes(call), 0 if call.attrs.time_major else 1
    begin, size = np.zeros(3, np.int32), np.asarray(y.shape, np.int32)
    begin[time], size[time] = s.steps - 1, 1
    last = sub.temporary(f"{hidden.name}/step", y, size.tolist())
    constants = [
        sub.constant(f"{hidden.name}/{k}", v) for k, v in (("begin", begin), ("size", size))
    ]
    version = site.version(1, 2, 4)
    inputs = (site.outputs[0], *constants)
    sub.operator("SLICE", version, schema.SliceOptionsT(), inputs, (last,))
    shape = np.asarray(hidden.shape, np.int32)
    index = sub.constant(f"{hidden.name}/shape", shape)
    options = schema.ReshapeOptionsT(newShape=shape)
    sub.operator("RESHAPE", 1, options, (last, index), site.outputs[1:2])


def _intermediates(site: Site) -> tuple[int, ...]:
    """Five tensors that nobody computes, whose scales some runtimes ask for: gates and hidden."""
    name, hidden = site.call.name, site.call.input(lstm.HIDDEN)
    gate = Tensor("gate", (0,), DType.INT16, QuantParams.per_tensor(lstm.GATE_INPUT_SCALE))
    wishes = [*((f"{name}/{g}_gate_sum", gate) for g in lstm.GATES), (f"{name}/hidden", hidden)]
    return tuple(site.sub.temporary(wish, like, (0,)) for wish, like in wishes)


def write_svdf(site: Site) -> None:
    """With a bias always: tflite-micro reads it unasked."""
    a, call = site.call.attrs, site.call
    options = schema.SVDFOptionsT(rank=a.rank, fusedActivationFunction=ACTIVATIONS[a.activation])
    x, wf, wt, bias = site.inputs[:4]
    if bias < 0:
        kind = np.int32 if site.is_int8 else np.float32
        bias = site.sub.constant(f"{call.name}/bias", np.zeros(call.output.shape[1], kind),
                                 _svdf_bias_quant(site))  # fmt: skip
    inputs = (x, wf, wt, bias, _state_input(site, svdf.STATE))
    site.sub.operator("SVDF", 3 if site.is_int8 else 1, options, inputs, site.outputs[:1])


def _svdf_bias_quant(site: Site) -> QuantParams | None:
    if not site.is_int8:
        return None
    call = site.call
    product = np.float32(call.input(svdf.STATE).scale) * np.float32(
        call.input(svdf.TIME_WEIGHTS).scale
    )
    return QuantParams.per_tensor(float(product))


MORE_WRITERS: dict[str, Writer] = {
    "sum": _reducer("SUM"),
    "reduce_max": _reducer("REDUCE_MAX"),
    "reduce_min": _reducer("REDUCE_MIN"),
    "arg_max": _arg("ARG_MAX", "ArgMaxOptionsT"),
    "arg_min": _arg("ARG_MIN", "ArgMinOptionsT"),
    "cast": write_cast,
    "resize_nearest": _resize("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptionsT"),
    "resize_bilinear": _resize("RESIZE_BILINEAR", "ResizeBilinearOptionsT"),
    "depth_to_space": _blocks("DEPTH_TO_SPACE", "DepthToSpaceOptionsT"),
    "space_to_depth": _blocks("SPACE_TO_DEPTH", "SpaceToDepthOptionsT"),
    "gather": write_gather,
    "batch_matmul": write_batch_matmul,
    "transpose_conv2d": write_transpose_conv2d,
    "squared_difference": _plain("SQUARED_DIFFERENCE", "SquaredDifferenceOptionsT"),
    "l2_normalization": _plain("L2_NORMALIZATION", "L2NormOptionsT"),
    "log_softmax": _plain("LOG_SOFTMAX", "LogSoftmaxOptionsT"),
    "lstm": write_lstm,
    "svdf": write_svdf,
    "exp": _plain("EXP", "ExpOptionsT"),
    "elu": _plain("ELU", None, 1),
    "gelu": write_gelu,
    "sqrt": _float_only("SQRT", None, "RELU"),
    "square": _float_only("SQUARE", "SquareOptionsT"),
    "rsqrt": _plain("RSQRT", None),
    "abs": _plain("ABS", "AbsOptionsT"),
    "neg": _float_only("NEG", "NegOptionsT"),
}
