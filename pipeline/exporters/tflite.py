"""Graph to .tflite: the schema's object API filled node by node, one writer an op."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import UnsupportedModel
from tinsmith.pipeline.graph import (
    Activation,
    Array,
    DType,
    Graph,
    Node,
    QuantParams,
    StateVar,
    Tensor,
)
from tinsmith.pipeline.ops import OpCall, call_of, window
from tinsmith.pipeline.ops import pad as pad_op

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16  # the schema's force_align of Buffer.data

TENSOR_TYPES: Mapping[DType, int] = {
    DType.FLOAT32: schema.TensorType.FLOAT32,
    DType.INT8: schema.TensorType.INT8,
    DType.UINT8: schema.TensorType.UINT8,
    DType.INT16: schema.TensorType.INT16,
    DType.INT32: schema.TensorType.INT32,
    DType.INT64: schema.TensorType.INT64,
    DType.BOOL: schema.TensorType.BOOL,
}

ACTIVATIONS: Mapping[Activation, int] = {
    Activation.NONE: schema.ActivationFunctionType.NONE,
    Activation.RELU: schema.ActivationFunctionType.RELU,
    Activation.RELU6: schema.ActivationFunctionType.RELU6,
    Activation.RELU_N1_TO_1: schema.ActivationFunctionType.RELU_N1_TO_1,
}


def to_tflite(graph: Graph) -> bytes:
    """The graph as a .tflite file; the same graph gives the same bytes.

    Tensor names are kept. Explicit pads become SAME or VALID where they equal it, else a PAD before
    the node. State becomes resource variables with an initializing subgraph.
    UnsupportedModel, with every reason, for what the format can't say.
    """
    file = _File()
    main = _Subgraph("main", file)
    for name in (*graph.inputs, *(s.tensor for s in graph.state)):
        main.tensor(graph.tensors[name])
    if graph.state:
        _write_state_start(main, graph.state)
    reasons: list[str] = []
    for node in graph.nodes:
        writer = WRITERS.get(node.op)
        if writer is None:
            reasons.append(f"{node.op} '{node.name}': the op has no counterpart in .tflite")
            continue
        try:
            _write_node(main, graph, node, writer)
        except UnsupportedModel as e:
            reasons.append(str(e))
    if reasons:
        raise UnsupportedModel("the graph can't be written as .tflite:\n  " + "\n  ".join(reasons))
    for var in graph.state:
        handle = _variable(main, var)
        value = main.tensor(graph.tensors[var.next])
        main.operator("ASSIGN_VARIABLE", 1, schema.AssignVariableOptionsT(), (handle, value), ())
    subgraphs = [main.finish(graph.inputs, graph.outputs, graph)]
    if graph.state:
        subgraphs.append(_initializer(file, graph))
    return file.pack(subgraphs)


# The file


class _AlignedBuffer:
    """A Buffer whose data starts at a multiple of 16, which the object API's own does not."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def Pack(self, builder: flatbuffers.Builder) -> int:
        offset = None
        if self.data:
            builder.StartVector(1, len(self.data), BUFFER_ALIGNMENT)
            builder.head = builder.head - len(self.data)
            builder.Bytes[builder.Head() : builder.Head() + len(self.data)] = self.data
            offset = builder.EndVector()
        schema.BufferStart(builder)
        if offset is not None:
            schema.BufferAddData(builder, offset)
        return int(schema.BufferEnd(builder))


@dataclass
class _File:
    """What the subgraphs of a file share: buffers and operator codes. Buffer 0 is the empty one."""

    buffers: list[bytes] = field(default_factory=lambda: [b""])
    codes: dict[tuple[int, int], int] = field(default_factory=dict)

    def buffer(self, data: bytes) -> int:
        self.buffers.append(data)
        return len(self.buffers) - 1

    def code(self, name: str, version: int) -> int:
        key = (getattr(schema.BuiltinOperator, name), version)
        return self.codes.setdefault(key, len(self.codes))

    def pack(self, subgraphs: Sequence[Any]) -> bytes:
        codes = [
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=v)
            for code, v in self.codes
        ]
        model = schema.ModelT(
            version=SCHEMA_VERSION,
            operatorCodes=codes,
            subgraphs=list(subgraphs),
            description="tinsmith",
            buffers=[_AlignedBuffer(data) for data in self.buffers],
        )
        builder = flatbuffers.Builder(1024 + sum(map(len, self.buffers)))
        builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
        return bytes(builder.Output())


@dataclass
class _Subgraph:
    """A subgraph being written: tensors by name, operators in order."""

    name: str
    file: _File
    tensors: list[Any] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    operators: list[Any] = field(default_factory=list)
    reserved: frozenset[str] = frozenset()

    def tensor(self, tensor: Tensor, quant: QuantParams | None = None) -> int:
        """The index of a tensor of the graph, which is added where it is new."""
        if tensor.name in self.index:
            return self.index[tensor.name]
        buffer = 0 if tensor.data is None else self.file.buffer(_stored(tensor))
        kind = TENSOR_TYPES[tensor.dtype]
        if _is_nibbles(tensor):
            kind = schema.TensorType.INT4
        return self._add(tensor.name, tensor.shape, kind, buffer, quant or tensor.quant)

    def constant(self, wish: str, data: Array, quant: QuantParams | None = None) -> int:
        """The index of a new constant tensor, named after the wish."""
        kind = TENSOR_TYPES[DType.of(data)]
        buffer = self.file.buffer(np.ascontiguousarray(data).tobytes())
        return self._add(self.fresh(wish), data.shape, kind, buffer, quant)

    def temporary(self, wish: str, like: Tensor, shape: Sequence[int]) -> int:
        """The index of a new computed tensor of another shape, otherwise like a tensor."""
        return self._add(self.fresh(wish), shape, TENSOR_TYPES[like.dtype], 0, like.quant)

    def resource(self, wish: str) -> int:
        return self._add(self.fresh(wish), (), schema.TensorType.RESOURCE, 0, None)

    def fresh(self, wish: str) -> str:
        name, i = wish, 1
        while name in self.index or name in self.reserved:
            name, i = f"{wish}_{i}", i + 1
        return name

    def _add(
        self, name: str, shape: Sequence[int], kind: int, buffer: int, quant: QuantParams | None
    ) -> int:
        tensor = schema.TensorT(
            shape=np.asarray(shape, np.int32),
            type=kind,
            buffer=buffer,
            name=name,
            quantization=_quantization(quant),
            hasRank=True,
        )
        self.tensors.append(tensor)
        self.index[name] = len(self.tensors) - 1
        return self.index[name]

    def operator(
        self,
        code: str,
        version: int,
        options: Any,
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> None:
        """Adds an operator; `options` is a *OptionsT of the schema, or None."""
        kind = 0
        if options is not None:
            kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=self.file.code(code, version),
                inputs=np.asarray(inputs, np.int32),
                outputs=np.asarray(outputs, np.int32),
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )

    def finish(self, inputs: Sequence[str], outputs: Sequence[str], graph: Graph) -> Any:
        return schema.SubGraphT(
            tensors=self.tensors,
            inputs=np.asarray([self.tensor(graph.tensors[n]) for n in inputs], np.int32),
            outputs=np.asarray([self.tensor(graph.tensors[n]) for n in outputs], np.int32),
            operators=self.operators,
            name=self.name,
        )


def _is_nibbles(tensor: Tensor) -> bool:
    return tensor.is_constant and tensor.quant is not None and tensor.quant.bits == 4


def _stored(tensor: Tensor) -> bytes:
    """The bytes of a constant; 4-bit values two to a byte, the first in the low nibble."""
    data = np.ascontiguousarray(tensor.value())
    if not _is_nibbles(tensor):
        return data.tobytes()
    flat = data.reshape(-1).astype(np.uint8) & 0x0F
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return bytes((flat[0::2] | (flat[1::2] << 4)).astype(np.uint8).tobytes())


def _quantization(quant: QuantParams | None) -> Any:
    if quant is None:
        return None
    if quant.block is not None:
        raise UnsupportedModel("scales of blocks have no counterpart in .tflite")
    zero = np.broadcast_to(quant.zero_points, quant.scales.shape)
    return schema.QuantizationParametersT(
        scale=quant.scales,
        zeroPoint=np.ascontiguousarray(zero, np.int64),
        quantizedDimension=quant.axis or 0,
    )


# State


def _variable(sub: _Subgraph, var: StateVar) -> int:
    """The resource tensor of a state variable, made by a VAR_HANDLE at its first use."""
    key = f"{var.name}/handle"
    if key not in sub.index:
        index = sub.resource(key)
        options = schema.VarHandleOptionsT(container="", sharedName=var.name)
        sub.operator("VAR_HANDLE", 1, options, (), (index,))
    return sub.index[key]


def _write_state_start(main: _Subgraph, state: Sequence[StateVar]) -> None:
    main.operator("CALL_ONCE", 1, schema.CallOnceOptionsT(initSubgraphIndex=1), (), ())
    for var in state:
        handle = _variable(main, var)
        options = schema.ReadVariableOptionsT()
        main.operator("READ_VARIABLE", 1, options, (handle,), (main.index[var.tensor],))


def _initializer(file: _File, graph: Graph) -> Any:
    sub = _Subgraph("initialize", file)
    for var in graph.state:
        quant = graph.tensors[var.tensor].quant
        value = sub.constant(f"{var.name}/initial", var.initial, quant)
        options = schema.AssignVariableOptionsT()
        sub.operator("ASSIGN_VARIABLE", 1, options, (_variable(sub, var), value), ())
    return sub.finish((), (), graph)


# The ops


@dataclass(frozen=True)
class Site:
    """Where a writer writes: the subgraph, the node with its tensors, and their indices."""

    sub: _Subgraph
    call: OpCall
    inputs: tuple[int, ...]  # -1 where absent
    outputs: tuple[int, ...]

    @property
    def is_int8(self) -> bool:
        return self.call.input(0).dtype is DType.INT8


Writer = Callable[[Site], None]


def _write_node(sub: _Subgraph, graph: Graph, node: Node, writer: Writer) -> None:
    sub.reserved = frozenset(graph.tensors)
    call = call_of(graph, node)
    inputs = [
        -1 if t is None else sub.tensor(t, _bias_quant(node, call) if i == 2 else None)
        for i, t in enumerate(call.inputs)
    ]
    outputs = [sub.tensor(t) for t in call.outputs]
    writer(Site(sub, call, tuple(inputs), tuple(outputs)))


def _bias_quant(node: Node, call: OpCall) -> QuantParams | None:
    """The quantization of a bias that has none of its own: input scale * weight scale."""
    if node.op not in ("conv2d", "depthwise_conv2d", "fully_connected"):
        return None
    weights, bias = call.input(1), call.optional(2)
    if bias is None or bias.quant is not None or weights.quant is None:
        return None
    scales = np.float32(call.input(0).scale) * weights.quant.scales
    axis = 0 if weights.quant.per_channel else None
    return QuantParams(tuple(scales.tolist()), (0,), axis)


def _padding(site: Site, kernel: window.Pair, dilation: window.Pair) -> tuple[int, int]:
    """(input tensor, Padding) of a node with explicit pads, with a PAD before it where needed."""
    call, a = site.call, site.call.attrs
    if not any(a.pads):
        return site.inputs[0], schema.Padding.VALID
    _, h, w, _ = call.input(0).shape
    if a.pads == window.same_pads((h, w), kernel, a.stride, dilation):
        return site.inputs[0], schema.Padding.SAME
    return _pad_before(site, a.pads, 0.0), schema.Padding.VALID


def _pad_before(site: Site, pads: window.Pads, value: float) -> int:
    x = site.call.input(0)
    n, h, w, c = x.shape
    top, bottom, left, right = pads
    shape = (n, h + top + bottom, w + left + right, c)
    padded = site.sub.temporary(f"{x.name}/padded", x, shape)
    pairs = ((0, 0), (top, bottom), (left, right), (0, 0))
    attrs = pad_op.PadAttrs(pairs, value)
    out = Tensor(f"{x.name}/padded", shape, x.dtype, x.quant)
    inner = OpCall(site.call.name, attrs, (x,), (out,))
    write_pad(Site(site.sub, inner, site.inputs[:1], (padded,)))
    return padded


def write_conv2d(site: Site) -> None:
    call, a = site.call, site.call.attrs
    w = call.input(1)
    x, padding = _padding(site, (w.shape[1], w.shape[2]), a.dilation)
    options = schema.Conv2DOptionsT(
        padding=padding,
        strideH=a.stride[0],
        strideW=a.stride[1],
        dilationHFactor=a.dilation[0],
        dilationWFactor=a.dilation[1],
        fusedActivationFunction=ACTIVATIONS[a.activation],
    )
    grouped = call.input(0).shape[3] != w.shape[3]
    version = 6 if grouped else (7 if _is_nibbles(w) else (3 if site.is_int8 else 1))
    site.sub.operator("CONV_2D", version, options, (x, *_present(site.inputs[1:])), site.outputs)


def write_depthwise_conv2d(site: Site) -> None:
    call, a = site.call, site.call.attrs
    w = call.input(1)
    x, padding = _padding(site, (w.shape[1], w.shape[2]), a.dilation)
    options = schema.DepthwiseConv2DOptionsT(
        padding=padding,
        strideH=a.stride[0],
        strideW=a.stride[1],
        depthMultiplier=w.shape[3] // call.input(0).shape[3],
        dilationHFactor=a.dilation[0],
        dilationWFactor=a.dilation[1],
        fusedActivationFunction=ACTIVATIONS[a.activation],
    )
    version = 7 if _is_nibbles(w) else (3 if site.is_int8 else 2)
    inputs = (x, *_present(site.inputs[1:]))
    site.sub.operator("DEPTHWISE_CONV_2D", version, options, inputs, site.outputs)


def write_fully_connected(site: Site) -> None:
    a, w = site.call.attrs, site.call.input(1)
    options = schema.FullyConnectedOptionsT(
        fusedActivationFunction=ACTIVATIONS[a.activation], keepNumDims=a.keep_dims
    )
    version = 5 if a.keep_dims else (4 if site.is_int8 else 1)
    if len(_present(site.inputs)) == 2:
        version = 6
    if _is_nibbles(w):
        version = 10
    elif site.is_int8 and w.quant is not None and w.quant.per_channel:
        version = 12
    # The format asks for the bias to be named, even where it is absent.
    inputs = (*site.inputs, -1)[:3]
    site.sub.operator("FULLY_CONNECTED", version, options, inputs, site.outputs)


def _present(inputs: Sequence[int]) -> tuple[int, ...]:
    """Inputs without the absent ones at the end."""
    kept = list(inputs)
    while kept and kept[-1] < 0:
        kept.pop()
    return tuple(kept)


def write_add(site: Site) -> None:
    options = schema.AddOptionsT(
        fusedActivationFunction=ACTIVATIONS[site.call.attrs.activation], potScaleInt16=False
    )
    site.sub.operator("ADD", 2 if site.is_int8 else 1, options, site.inputs, site.outputs)


def _pool_options(site: Site, padding: int) -> Any:
    a = site.call.attrs
    return schema.Pool2DOptionsT(
        padding=padding,
        strideH=a.stride[0],
        strideW=a.stride[1],
        filterHeight=a.kernel[0],
        filterWidth=a.kernel[1],
        fusedActivationFunction=ACTIVATIONS[a.activation],
    )


def write_max_pool2d(site: Site) -> None:
    a, x = site.call.attrs, site.inputs[0]
    _, h, w, _ = site.call.input(0).shape
    padding = schema.Padding.VALID
    if any(a.pads):
        if a.pads == window.same_pads((h, w), a.kernel, a.stride):
            padding = schema.Padding.SAME
        else:
            x = _pad_before(site, a.pads, -np.inf)
    options = _pool_options(site, padding)
    site.sub.operator("MAX_POOL_2D", 2 if site.is_int8 else 1, options, (x,), site.outputs)


def write_average_pool2d(site: Site) -> None:
    a = site.call.attrs
    _, h, w, _ = site.call.input(0).shape
    same = window.same_pads((h, w), a.kernel, a.stride)
    if any(a.pads) and a.pads != same:
        raise UnsupportedModel(
            f"average_pool2d '{site.call.name}': padding {a.pads} that does not count has no "
            f"counterpart in .tflite; allowed: none, or {same}"
        )
    padding = schema.Padding.SAME if any(a.pads) else schema.Padding.VALID
    options = _pool_options(site, padding)
    version = 2 if site.is_int8 else 1
    site.sub.operator("AVERAGE_POOL_2D", version, options, site.inputs, site.outputs)


def write_mean(site: Site) -> None:
    a = site.call.attrs
    axes = site.sub.constant(f"{site.call.name}/axes", np.asarray(a.axes, np.int32))
    options = schema.ReducerOptionsT(keepDims=a.keep_dims)
    version = 2 if site.is_int8 else 1
    site.sub.operator("MEAN", version, options, (site.inputs[0], axes), site.outputs)


def write_pad(site: Site) -> None:
    a, x = site.call.attrs, site.call.input(0)
    name = site.call.name
    pads = site.sub.constant(f"{name}/pads", np.asarray(a.pads, np.int32).reshape(-1, 2))
    version = 2 if site.is_int8 else 1
    if len(a.pads) > 4:
        version = 3
    if a.value == 0.0:
        options = schema.PadOptionsT()
        site.sub.operator("PAD", version, options, (site.inputs[0], pads), site.outputs)
        return
    if x.dtype is DType.FLOAT32:
        info = np.finfo(np.float32)
        border: Array = np.array([np.clip(a.value, info.min, info.max)], np.float32)
    else:
        border = np.array([pad_op.border(site.call)], x.dtype.numpy)
    value = site.sub.constant(f"{name}/value", border, x.quant)
    inputs = (site.inputs[0], pads, value)
    site.sub.operator("PADV2", version, schema.PadV2OptionsT(), inputs, site.outputs)


def write_reshape(site: Site) -> None:
    shape = np.asarray(site.call.output.shape, np.int32)
    index = site.sub.constant(f"{site.call.name}/shape", shape)
    options = schema.ReshapeOptionsT(newShape=shape)
    site.sub.operator("RESHAPE", 1, options, (site.inputs[0], index), site.outputs)


def write_transpose(site: Site) -> None:
    perm = np.asarray(site.call.attrs.perm, np.int32)
    index = site.sub.constant(f"{site.call.name}/perm", perm)
    version = 4 if len(perm) > 4 else (2 if site.is_int8 else 1)
    options = schema.TransposeOptionsT()
    site.sub.operator("TRANSPOSE", version, options, (site.inputs[0], index), site.outputs)


def write_relu(site: Site) -> None:
    site.sub.operator("RELU", 2 if site.is_int8 else 1, None, site.inputs, site.outputs)


def write_relu6(site: Site) -> None:
    site.sub.operator("RELU6", 2 if site.is_int8 else 1, None, site.inputs, site.outputs)


def write_softmax(site: Site) -> None:
    options = schema.SoftmaxOptionsT(beta=site.call.attrs.beta)
    site.sub.operator("SOFTMAX", 2 if site.is_int8 else 1, options, site.inputs, site.outputs)


def write_quantize(site: Site) -> None:
    version = 1 if site.call.input(0).dtype is DType.FLOAT32 else 2
    site.sub.operator("QUANTIZE", version, schema.QuantizeOptionsT(), site.inputs, site.outputs)


def write_dequantize(site: Site) -> None:
    version = {DType.INT16: 3, DType.INT8: 2}.get(site.call.input(0).dtype, 1)
    options = schema.DequantizeOptionsT()
    site.sub.operator("DEQUANTIZE", version, options, site.inputs, site.outputs)


WRITERS: Mapping[str, Writer] = {
    "conv2d": write_conv2d,
    "depthwise_conv2d": write_depthwise_conv2d,
    "fully_connected": write_fully_connected,
    "add": write_add,
    "max_pool2d": write_max_pool2d,
    "average_pool2d": write_average_pool2d,
    "mean": write_mean,
    "pad": write_pad,
    "reshape": write_reshape,
    "transpose": write_transpose,
    "relu": write_relu,
    "relu6": write_relu6,
    "softmax": write_softmax,
    "quantize": write_quantize,
    "dequantize": write_dequantize,
}
