"""The rules of a graph, checked after every pass and at every front end."""

from __future__ import annotations

from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.graph import Activation, DType, Graph, Node
from tinsmith.pipeline.ops import OPS, OpCall, OpDef, ScaleRule, call_of


def verify(graph: Graph) -> Graph:
    """The graph itself where it keeps the rules; ModelError with the first broken one.

    Names resolve, every tensor has one source, nodes stand in topological order, shapes and types
    are what the ops' rules say, quantized tensors have parameters, and scale rules hold.
    """
    known = {name for name, t in graph.tensors.items() if t.is_constant}
    known |= {*graph.inputs, *(s.tensor for s in graph.state)}
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise ModelError(f"two nodes are called '{node.name}'")
        names.add(node.name)
        _verify_node(graph, node, known)
        known |= set(node.outputs)
    for name in graph.live_outputs():
        if name not in known:
            raise ModelError(f"output '{name}' is computed by no node")
    return graph


def _verify_node(graph: Graph, node: Node, known: set[str]) -> None:
    if node.op not in OPS:
        raise UnsupportedModel(f"'{node.name}': op {node.op} is not known; see `tinsmith ops`")
    op = OPS[node.op]
    if not isinstance(node.attrs, op.attrs):
        raise ModelError(f"'{node.name}': attributes are {type(node.attrs).__name__}")
    for i, name in enumerate(node.inputs):
        if not name:
            if i not in op.optional_inputs:
                raise ModelError(f"{node.op} '{node.name}': input {i} is absent")
        elif name not in known:
            raise ModelError(f"{node.op} '{node.name}': input '{name}' is not computed before it")
    for name in node.outputs:
        if name in known:
            raise ModelError(f"{node.op} '{node.name}': '{name}' already has a source")
    call = call_of(graph, node)
    specs = op.infer(call)
    if len(specs) != len(node.outputs):
        raise ModelError(f"'{node.name}': {len(node.outputs)} outputs, expected {len(specs)}")
    for tensor, spec in zip(call.outputs, specs, strict=True):
        if tensor.shape != spec.shape or tensor.dtype is not spec.dtype:
            raise ModelError(
                f"{node.op} '{node.name}': '{tensor.name}' is "
                f"{tensor.dtype.value}{list(tensor.shape)}, "
                f"expected {spec.dtype.value}{list(spec.shape)}"
            )
    reasons = (*quant_reasons(op, call), *op.accepts(call))
    if reasons:
        raise UnsupportedModel(f"{node.op} '{node.name}': {'; '.join(reasons)}")
    if call.output.quant is not None:
        _verify_scales(graph, node)


_QUANTIZED = (DType.INT8, DType.UINT8, DType.INT16)


def quant_reasons(op: OpDef, call: OpCall) -> tuple[str, ...]:
    """Reasons why the quantization of a call's tensors isn't what its op computes with.

    One scale for activations, scales along the op's own axis for weights, and some scale wherever
    the op doesn't merely move values.
    """
    reasons = []
    # A fused activation clamps at real values.
    plain = getattr(call.attrs, "activation", Activation.NONE) is Activation.NONE
    moves = plain and op.scale_rule in (ScaleRule.SAME, ScaleRule.ALL_SAME)
    for i, tensor in (*enumerate(call.inputs), *((-1, t) for t in call.outputs)):
        if tensor is None or (i >= 0 and i == op.bias) or tensor.dtype not in _QUANTIZED:
            continue
        quant = tensor.quant
        if quant is None:
            if not moves:
                reasons.append(f"'{tensor.name}' is {tensor.dtype.value} without a scale")
        elif i == op.weights:
            if quant.axis not in (None, op.weight_axis):
                reasons.append(
                    f"'{tensor.name}' has scales along axis {quant.axis}; "
                    f"allowed: axis {op.weight_axis}, or one scale"
                )
        elif quant.per_channel and not tensor.is_constant:
            reasons.append(f"'{tensor.name}' has {len(quant.scale)} scales; allowed: one")
    return tuple(reasons)


def _verify_scales(graph: Graph, node: Node) -> None:
    op = OPS[node.op]
    call = call_of(graph, node)
    out = call.output
    fixed = op.fixed_quant_of(out.dtype)
    if op.scale_rule is ScaleRule.FIXED and fixed is not None:
        if (out.scale, out.zero_point) != fixed:
            raise ModelError(
                f"{node.op} '{node.name}': output scale {out.scale} and zero point "
                f"{out.zero_point}; allowed: {fixed[0]} and {fixed[1]}"
            )
        return
    if op.scale_rule not in (ScaleRule.SAME, ScaleRule.ALL_SAME):
        return
    tensors = [call.input(0), *call.outputs]
    if op.scale_rule is ScaleRule.ALL_SAME:
        tensors += [t for t in call.inputs[: op.data_inputs] if t is not None]
    if len({t.quant for t in tensors}) > 1:
        raise ModelError(
            f"{node.op} '{node.name}': inputs and outputs have different scales; "
            f"the op asks for {op.scale_rule.value}"
        )
