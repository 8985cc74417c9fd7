"""ONNX in: `read_onnx`.

Layout: inputs and outputs of rank 4 are images, and the graph has them as NHWC, also where the
ONNX model has NCHW; inputs of rank 3 that feed a 1-D convolution or pooling are [n, length, c].
All others are as the model has them. Tensors keep the names of their ONNX values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto

from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.frontends.onnx_context import (
    TO_NCHW,
    TO_NHWC,
    Context,
    Parameter,
    Refused,
)
from tinsmith.pipeline.frontends.onnx_file import (
    OnnxInput,
    OnnxModel,
    OnnxNode,
    Source,
    check_shape,
    load_model,
)
from tinsmith.pipeline.frontends.onnx_fold import MAX_FOLDED, constant_value, fold
from tinsmith.pipeline.frontends.onnx_ops import IMPORTERS, Importer, importer_of
from tinsmith.pipeline.graph import DType, Graph, GraphBuilder, Node, Shape, Tensor, rebuild
from tinsmith.pipeline.ops import OPS, call_of
from tinsmith.pipeline.passes import FLOAT_PASSES, run_passes
from tinsmith.pipeline.quantization import quantize, tensors_without_range
from tinsmith.pipeline.quantization.carried import is_note
from tinsmith.pipeline.verify import verify

# All floats are float32 here. int8 and uint8 are taken where DequantizeLinear says what they mean;
# the graph has them as int8. int32 and int64 are indices, and stay what they are.
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
BYTES = (TensorProto.INT8, TensorProto.UINT8)
INDICES: dict[int, DType] = {TensorProto.INT32: DType.INT32, TensorProto.INT64: DType.INT64}

# A rank-3 input is a signal [n, c, length] where one of these reads it.
SIGNAL_OPS = (
    "Conv", "ConvTranspose", "QLinearConv", "MaxPool", "AveragePool", "BatchNormalization"
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """Something of a model that can't be imported."""

    op: str
    layer: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.op} '{self.layer}': {self.reason}; {self.remedy}"


def read_onnx(source: Source, *, shapes: Mapping[str, Sequence[int]] | None = None) -> Graph:
    """The graph of an ONNX model (a path, the bytes of a file, or a ModelProto).

    It is float; a model that is quantized already (QDQ or QLinear ops) becomes an int8 graph with
    its parameters where it has those of every tensor, else a float graph that carries what there
    is, for quantize to keep.

    shapes: for inputs whose dimensions the model leaves open, in the model's own layout; an open
        first dimension is a batch of 1 without it.
    Raises ModelError for a damaged model; UnsupportedModel with everything that can't be imported.
    """
    model = load_model(source)
    ctx = Context(GraphBuilder(model.name), model.opset)
    ctx.values.update(model.constants)
    _check_shapes(model, shapes or {})
    problems = [p for i in model.inputs if (p := _declare_input(ctx, model, i, shapes or {}))]
    problems += _import_nodes(ctx, model)
    if problems:
        raise UnsupportedModel(_report(problems))
    graph = _finish(ctx, model)
    problems = [
        Problem(node.op, node.name, reason, "see `tinsmith ops`")
        for node in graph.nodes
        for reason in OPS[node.op].accepts(call_of(graph, node))
    ]
    if problems:
        raise UnsupportedModel(_report(problems))
    return _integers_where_complete(verify(graph))


def _integers_where_complete(graph: Graph) -> Graph:
    """The int8 graph of one that carries the parameters of every tensor."""
    if not any(is_note(graph, node) for node in graph.nodes):
        return graph
    fused = run_passes(graph, FLOAT_PASSES)
    return graph if tensors_without_range(fused) else quantize(fused)


def _report(problems: Sequence[Problem]) -> str:
    lines = "\n".join(f"  {p}" for p in problems)
    return (
        f"{len(problems)} layer(s) of the ONNX model can't be imported:\n{lines}\n"
        f"supported ONNX ops: {', '.join(sorted(IMPORTERS))}"
    )


def _declare_input(
    ctx: Context, model: OnnxModel, spec: OnnxInput, shapes: Mapping[str, Sequence[int]]
) -> Problem | None:
    if spec.elem_type in INDICES:
        shape = _input_shape(spec, shapes)
        ctx.values[spec.name] = ctx.builder.input(spec.name, shape, INDICES[spec.elem_type])
        return None
    if spec.elem_type not in (*FLOATS, *BYTES):
        kind = TensorProto.DataType.Name(spec.elem_type) if spec.elem_type in _TYPES else "unknown"
        return Problem(
            "input",
            spec.name,
            f"its type is {kind.lower()}",
            "use float32 inputs, int8 or uint8 where it is quantized, or int32 or int64 indices",
        )
    if spec.elem_type in BYTES and not _is_dequantized(model, spec.name):
        reason = "it is of integers that nothing dequantizes"
        return Problem("input", spec.name, reason, "give it a DequantizeLinear")
    shape = _input_shape(spec, shapes)
    perm = _input_perm(model, spec.name, len(shape))
    if perm is None:
        ctx.values[spec.name] = ctx.builder.input(spec.name, shape)
    else:
        ctx.builder.input(spec.name, tuple(shape[i] for i in _inverse(perm)))
        ctx.values[spec.name] = ctx.transpose(spec.name, perm)
    return None


def _is_dequantized(model: OnnxModel, name: str) -> bool:
    return any(
        name in n.inputs and (n.op == "DequantizeLinear" or n.op.startswith("Q"))
        for n in model.nodes
    )


_TYPES = frozenset(TensorProto.DataType.values())


def _check_shapes(model: OnnxModel, shapes: Mapping[str, Sequence[int]]) -> None:
    """ModelError with every input whose shape is open, or for a shape of what is no input."""
    names = [i.name for i in model.inputs]
    unknown = [name for name in shapes if name not in names]
    if unknown:
        raise ModelError(
            f"shapes are given for {', '.join(unknown)}; the model's inputs are {', '.join(names)}"
        )
    left = [i for i in model.inputs if None in i.dims[1:] and i.name not in shapes]
    if left:
        each = ", ".join(f"input '{i.name}' has the open shape {_show(i.dims)}" for i in left)
        example = ",".join("1" if d is None else str(d) for d in left[0].dims)
        raise ModelError(
            f"{each}; give its shape (--shape '{left[0].name}={example}' with the sizes that you "
            "use), or export the model with a fixed one"
        )


def _input_shape(spec: OnnxInput, shapes: Mapping[str, Sequence[int]]) -> Shape:
    dims = list(spec.dims)
    if spec.name in shapes:
        given = [int(d) for d in shapes[spec.name]]
        pairs = zip(dims, given, strict=False)
        if len(given) != len(dims) or any(d not in (None, g) for d, g in pairs):
            raise ModelError(
                f"input '{spec.name}' has the shape {_show(dims)}, which {given} does not fit"
            )
        dims = list(given)
    if dims and dims[0] is None:
        dims[0] = 1
    return check_shape(f"input '{spec.name}'", [d or 0 for d in dims])


def _show(dims: Iterable[int | None]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"


def _input_perm(model: OnnxModel, name: str, rank: int) -> tuple[int, ...] | None:
    """The order that leads from the graph's channels-last input to the model's own, if any."""
    if rank == 4:
        return TO_NCHW
    return (0, 2, 1) if rank == 3 and _is_signal(model, name) else None


def input_axes(source: Source) -> dict[str, tuple[int, ...]]:
    """The axes of a model's inputs in the order in which its graph has them: (0, 2, 3, 1) where the
    graph has an image of NCHW as NHWC. Raises ModelError for a damaged model.
    """
    model = load_model(source)
    return {
        i.name: _inverse(_input_perm(model, i.name, len(i.dims)) or range(len(i.dims)))
        for i in model.inputs
    }


def _inverse(perm: Sequence[int]) -> tuple[int, ...]:
    return tuple(perm.index(i) for i in range(len(perm)))


def _is_signal(model: OnnxModel, name: str) -> bool:
    names = {name}
    for node in model.nodes:
        if node.inputs[:1] and node.inputs[0] in names:
            if node.op in SIGNAL_OPS:
                return True
            if node.op in ("QuantizeLinear", "DequantizeLinear", "Identity"):
                names.add(node.outputs[0])
    return False


def _import_nodes(ctx: Context, model: OnnxModel) -> list[Problem]:
    problems = []
    for node in model.nodes:
        if _import_constant(ctx, node):
            continue
        importer = importer_of(node)
        if importer is None:
            of = f" (domain {node.domain})" if node.domain else ""
            reason = f"the op is not supported{of}"
            problems.append(Problem(node.op, node.name, reason, "replace it by ops that are"))
            continue
        if any(i and i not in ctx.values for i in node.inputs):
            continue  # behind a node that has been reported
        _check_node(node, model)
        try:
            _import_node(ctx, node, importer)
        except Refused as refused:
            problems.append(Problem(node.op, node.name, refused.reason, refused.remedy))
    return problems


def _import_node(ctx: Context, node: OnnxNode, importer: Importer) -> None:
    # _check_node has compared the node with ONNX's schema; what is left, such as shapes that don't
    # go together, shows as one of these where an importer does not look for it first.
    try:
        result = importer(ctx, node)
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as e:
        raise ModelError(
            f"{node.op} '{node.name}': its inputs and attributes do not fit: {e}"
        ) from e
    results = result if isinstance(result, tuple) else (result,)
    ctx.values.update(zip(node.outputs, results, strict=False))


def _import_constant(ctx: Context, node: OnnxNode) -> bool:
    """Evaluates a node of constants; False where it isn't one."""
    if (node.domain, node.op) == ("", "Constant"):
        ctx.values[node.outputs[0]] = constant_value(node)
        return True
    values = [ctx.values.get(i) if i else None for i in node.inputs]
    if not values or any(
        isinstance(v, str) or (v is None and i) for v, i in zip(values, node.inputs, strict=True)
    ):
        return False
    if node.op == "Transpose" and isinstance(values[0], Parameter):
        perm = node.attrs.get("perm", range(len(values[0].shape) - 1, -1, -1))
        if sorted(perm) != list(range(len(values[0].shape))):
            raise ModelError(
                f"Transpose '{node.name}': perm {list(perm)[:8]} is no order of the axes of "
                f"{list(values[0].shape)[:8]}"
            )
        ctx.values[node.outputs[0]] = values[0].transposed(tuple(perm))
        return True
    arrays = [v.values if isinstance(v, Parameter) else v for v in values]
    results = fold(node, [a for a in arrays if not isinstance(a, str)], ctx.opset)
    if results is None:
        return False
    # The sum is bounded too, so that many large results don't exhaust the memory.
    ctx.folded_elements += sum(r.size for r in results)
    if ctx.folded_elements > MAX_FOLDED:
        raise ModelError(
            f"{node.op} '{node.name}': the constants that the ONNX model computes have more than "
            f"{MAX_FOLDED} elements; store them as initializers"
        )
    ctx.values.update(zip((o for o in node.outputs if o), results, strict=True))
    return True


def _check_node(node: OnnxNode, model: OnnxModel) -> None:
    if node.domain:
        return  # onnx has no schemas of other domains
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {"": model.opset}
    try:
        onnx.checker.check_node(node.proto, context)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as e:
        first = str(e).strip().splitlines()[0]
        raise ModelError(f"{node.op} '{node.name}' breaks the ONNX schema: {first}") from e


def _finish(ctx: Context, model: OnnxModel) -> Graph:
    """The graph with channels-last outputs that are called as the model calls them."""
    builder = ctx.builder
    outputs: list[str] = []
    for name in model.outputs:
        tensor = ctx.tensor(ctx.values[name], name)
        if len(builder.tensors[tensor].shape) == 4:
            tensor = ctx.transpose(tensor, TO_NHWC)
        taken = tensor in outputs or tensor in builder.inputs
        if taken or builder.tensors[tensor].is_constant:
            shape = builder.tensors[tensor].shape
            tensor = ctx.reshape(tensor, shape, f"{name}_copy")
        outputs.append(tensor)
    graph = Graph(
        model.name,
        builder.tensors,
        tuple(builder.nodes),
        tuple(builder.inputs),
        tuple(outputs),
    )
    wanted = dict(zip(outputs, model.outputs, strict=True))
    return _rename(rebuild(graph), {k: v for k, v in wanted.items() if v not in graph.inputs})


def _rename(graph: Graph, wanted: Mapping[str, str]) -> Graph:
    """Tensors by other names; one that has a wanted name already gives way."""
    names = {t: t for t in graph.tensors} | dict(wanted)
    for old in graph.tensors:
        if old not in wanted and old in wanted.values():
            new = f"{old}_inner"
            while new in names or new in wanted.values():
                new += "_"
            names[old] = new
    tensors: list[Tensor] = [replace(t, name=names[t.name]) for t in graph.tensors.values()]
    nodes: list[Node] = [
        replace(
            n,
            inputs=tuple(names[i] if i else "" for i in n.inputs),
            outputs=tuple(names[o] for o in n.outputs),
        )
        for n in graph.nodes
    ]
    return Graph(
        graph.name,
        {t.name: t for t in tensors},
        tuple(nodes),
        tuple(names[i] for i in graph.inputs),
        tuple(names[o] for o in graph.outputs),
    )
