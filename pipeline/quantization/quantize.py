"""From a float graph to an int8 graph: `quantize`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tinsmith.pipeline import numerics
from tinsmith.pipeline.errors import ConfigError, DataError, UnsupportedModel
from tinsmith.pipeline.graph import (
    Array,
    DType,
    Graph,
    Node,
    QuantParams,
    StateVar,
    Tensor,
    rebuild,
)
from tinsmith.pipeline.ops import OPS, ScaleRule, call_of
from tinsmith.pipeline.passes.drop_requantize import drop_requantize
from tinsmith.pipeline.quantization.calibrate import Samples, calibrate, check_samples
from tinsmith.pipeline.quantization.carried import carried_parameters, is_note
from tinsmith.pipeline.quantization.observers import OBSERVERS, Range
from tinsmith.pipeline.quantization.parameters import (
    carried_integer_parameters,
    integer_parameters,
)
from tinsmith.pipeline.quantization.ranges import (
    Groups,
    fixed_parameters,
    parameters_of_ranges,
    shared_groups,
)
from tinsmith.pipeline.verify import verify


@dataclass(frozen=True)
class QuantizeOptions:
    """How a float graph becomes an int8 graph.

    observer: how ranges follow from what calibration sees: minmax, percentile or mse.
    percentile: for the observer of that name, in (50, 100].
    per_channel: convolution weights have a scale per output channel.
    per_channel_fc: fully connected weights too.
    float_io: inputs and outputs stay float32, with quantize and dequantize nodes at the borders.
    ranges: (min, max) by tensor name: learned in training, or known; they replace what is seen.
    """

    observer: str = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    per_channel_fc: bool = False
    float_io: bool = False
    ranges: Mapping[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.observer not in OBSERVERS:
            raise ConfigError(
                f"observer '{self.observer}' does not exist; allowed: {', '.join(OBSERVERS)}"
            )
        if not 50.0 < self.percentile <= 100.0:
            raise ConfigError(f"percentile {self.percentile}; allowed: above 50, up to 100")
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ConfigError(
                    f"the range of '{name}' is [{low}, {high}]; allowed: finite, low <= high"
                )


def quantize(
    graph: Graph, samples: Samples | None = None, options: QuantizeOptions | None = None
) -> Graph:
    """The int8 graph of a float graph, calibrated on samples.

    graph: float, after FLOAT_PASSES. Tensors and nodes keep their names, so that both graphs can be
        compared layer by layer. Parameters that it carries from an already quantized model stand.
    samples: arrays [N, *input shape] by input name; where an input's first dimension is 1, arrays
        without it are taken too. They may be left out where every tensor has a range.
    Raises DataError for samples that don't fit, and UnsupportedModel with every op that has no int8
    form.
    """
    options = options or QuantizeOptions()
    if any(t.quant is not None and t.dtype.is_integer for t in graph.tensors.values()):
        raise DataError("the graph is quantized already; expected a float graph")
    unknown = [name for name in options.ranges if name not in graph.tensors]
    if unknown:
        raise DataError(
            f"ranges are given for {', '.join(unknown[:5])}, which the graph has not; "
            f"it has {', '.join(_activations(graph))}"
        )
    _check_ops(graph)
    graph = _separate_scales(graph)
    groups = shared_groups(graph)
    known = carried_parameters(graph, groups, fixed_parameters(graph))
    seen = _ranges_of_constants(graph)
    missing = _without_range(graph, groups, known, options)
    if missing and not samples:
        raise DataError(
            f"there are no calibration samples, but {len(missing)} tensors have no range: "
            f"{', '.join(missing[:5])}; give samples"
        )
    if missing and samples:
        checked = check_samples(graph, samples)
        seen |= calibrate(graph, checked, options.observer, options.percentile)
    names = _activations(graph)
    params = parameters_of_ranges(names, groups, known, options.ranges, seen)
    quantized = drop_requantize(_integer_graph(graph, params, options))
    if options.float_io:
        quantized = _float_borders(quantized)
    return verify(quantized)


def tensors_without_range(graph: Graph) -> tuple[str, ...]:
    """What quantize needs samples for: the tensors whose parameters the graph doesn't carry."""
    graph = _separate_scales(graph)
    groups = shared_groups(graph)
    known = carried_parameters(graph, groups, fixed_parameters(graph))
    return _without_range(graph, groups, known, QuantizeOptions())


def _without_range(
    graph: Graph, groups: Groups, known: Mapping[str, QuantParams], options: QuantizeOptions
) -> tuple[str, ...]:
    ranged = {*known, *(groups.root(name) for name in options.ranges)}
    return tuple(
        name
        for name in _activations(graph)
        if groups.root(name) not in ranged and not graph.tensors[name].is_constant
    )


def _activations(graph: Graph) -> list[str]:
    """Inputs, state and computed tensors, and constants that ops read as activations."""
    names = dict.fromkeys(graph.inputs)
    names.update(dict.fromkeys(s.tensor for s in graph.state))
    for node in graph.nodes:
        op = OPS[node.op]
        constants = (
            name
            for i, name in enumerate(node.inputs)
            if name and graph.tensors[name].is_constant and i not in (op.weights, op.bias)
        )
        names.update(dict.fromkeys(constants))
        names.update(dict.fromkeys(node.outputs))
    return [name for name in names if graph.tensors[name].dtype is DType.FLOAT32]


def _check_ops(graph: Graph) -> None:
    """UnsupportedModel with every node that can't be an int8 node."""
    reasons = []
    for node in graph.nodes:
        call = call_of(graph, node)
        outputs = tuple(
            replace(t, dtype=DType.INT8, quant=QuantParams.per_tensor(1.0)) for t in call.outputs
        )
        inputs = tuple(_as_int8(node, i, t) for i, t in enumerate(call.inputs))
        found = OPS[node.op].accepts(replace(call, inputs=inputs, outputs=outputs))
        reasons += [f"{node.op} '{node.name}': {r}" for r in found]
    if reasons:
        lines = "\n".join(f"  {r}" for r in reasons)
        raise UnsupportedModel(f"these layers have no int8 form:\n{lines}")


def _as_int8(node: Node, i: int, t: Tensor | None) -> Tensor | None:
    if t is None or t.dtype is not DType.FLOAT32:
        return t
    dtype = DType.INT32 if i == OPS[node.op].bias else DType.INT8
    data = None if t.data is None else np.zeros(t.shape, dtype.numpy)
    return Tensor(t.name, t.shape, dtype, QuantParams.per_tensor(1.0), data)


def _separate_scales(graph: Graph) -> Graph:
    """Lets inputs change their scale before ops that want one scale for all inputs.

    Only inputs whose scale is fixed or carried need it; where it turns out to be the same one, the
    change of scale is dropped at the end.
    """
    groups = shared_groups(graph)
    decided = carried_parameters(graph, groups, fixed_parameters(graph))
    own = _decided_sources(graph, decided, groups)
    nodes: list[Node] = []
    tensors: list[Tensor] = []
    for node in graph.nodes:
        op = OPS[node.op]
        inputs = list(node.inputs)
        if op.scale_rule is ScaleRule.ALL_SAME:
            for i, name in enumerate(inputs[: op.data_inputs]):
                if name in own:
                    t = graph.tensors[name]
                    out = Tensor(f"{name}_to_{node.name}_{i}", t.shape, DType.FLOAT32)
                    tensors.append(out)
                    nodes.append(Node(out.name, "quantize", (name,), (out.name,)))
                    inputs[i] = out.name
        nodes.append(replace(node, inputs=tuple(inputs)))
    return rebuild(graph, nodes=nodes, tensors=tensors) if tensors else graph


def _decided_sources(
    graph: Graph, decided: Mapping[str, QuantParams], groups: Groups
) -> frozenset[str]:
    """Tensors whose scale is decided where they come from, not by an op that shares its scale."""
    found: set[str] = set()
    for node in graph.nodes:
        rule = OPS[node.op].scale_rule
        if rule is ScaleRule.ALL_SAME or (rule is ScaleRule.SAME and node.inputs[0] not in found):
            continue
        note = is_note(graph, node)
        if rule is ScaleRule.FIXED or rule is ScaleRule.SAME or note:
            found.update(node.outputs)
    found.update(n for n in graph.inputs if groups.root(n) in decided)
    return frozenset(found)


def _ranges_of_constants(graph: Graph) -> dict[str, Range]:
    """The ranges of constants that are read as activations, and of the initial state."""
    values = {v.tensor: v.initial for v in graph.state}
    values |= {
        name: data for name in _activations(graph) if (data := graph.tensors[name].data) is not None
    }
    return {name: (float(x.min()), float(x.max())) for name, x in values.items() if x.size}


def _integer_graph(
    graph: Graph, params: Mapping[str, QuantParams], options: QuantizeOptions
) -> Graph:
    tensors: dict[str, Tensor] = {}
    for name, quant in params.items():
        t = graph.tensors[name]
        if t.data is not None:
            tensors[name] = _integer_constant(t, quant)
        else:
            tensors[name] = replace(t, dtype=DType.INT8, quant=quant)
    nodes = [_integer_node(graph, node, params, tensors, options) for node in graph.nodes]
    state = [_integer_state(var, params) for var in graph.state]
    return rebuild(graph, nodes=nodes, tensors=tensors.values(), state=state)


def _integer_constant(t: Tensor, quant: QuantParams) -> Tensor:
    data = t.value()
    q = numerics.quantize_array(data, quant, DType.INT8)
    return Tensor(t.name, t.shape, DType.INT8, quant, np.asarray(q))


def _integer_state(var: StateVar, params: Mapping[str, QuantParams]) -> StateVar:
    if var.tensor not in params:
        return var
    q: Array = numerics.quantize_array(var.initial, params[var.tensor], DType.INT8)
    return replace(var, initial=q)


def _integer_node(
    graph: Graph,
    node: Node,
    params: Mapping[str, QuantParams],
    tensors: dict[str, Tensor],
    options: QuantizeOptions,
) -> Node:
    """The node as it reads integer weights and bias, which it adds to `tensors`."""
    op = OPS[node.op]
    if op.weights is None:
        return node
    wanted = options.per_channel_fc if node.op == "fully_connected" else options.per_channel
    axis = op.weight_axis if wanted else None
    w_name = node.inputs[op.weights]
    weights = graph.tensors[w_name].value()
    b_name = node.inputs[op.bias] if op.bias is not None and op.bias < len(node.inputs) else ""
    # Every layer gets a bias, of zeros where it had none: TFLite's integer kernels ask for one.
    channels = weights.shape[op.weight_axis or 0]
    bias = graph.tensors[b_name].value() if b_name else np.zeros(channels, np.float32)
    scale = params[node.inputs[0]].scale[0]
    made = carried_integer_parameters(
        graph.tensors[w_name], bias, graph.tensors[b_name] if b_name else None, scale
    ) or integer_parameters(weights, bias, axis, scale)
    inputs = list(node.inputs)
    inputs[op.weights] = _add_constant(graph, tensors, w_name, made.weights, made.weights_quant)
    if op.bias is not None:
        wish = b_name or f"{node.name}_bias"
        integers = made.bias.reshape(bias.shape)
        name = _add_constant(graph, tensors, wish, integers, made.bias_quant)
        inputs[op.bias :] = [name, *inputs[op.bias + 1 :]]
    return replace(node, inputs=tuple(inputs))


def _add_constant(
    graph: Graph,
    tensors: dict[str, Tensor],
    wish: str,
    data: Array,
    quant: QuantParams,
) -> str:
    """The name of an integer constant; nodes that shared a float constant may need their own."""
    name, count = wish, 1
    while name in tensors or (name != wish and name in graph.tensors):
        name, count = f"{wish}_{count}", count + 1
    tensors[name] = Tensor(name, data.shape, DType.of(data), quant, data)
    return name


def _float_borders(graph: Graph) -> Graph:
    """The graph with float32 inputs and outputs of the same names."""
    names = {name: f"{name}_int8" for name in (*graph.inputs, *graph.outputs)}
    tensors = [replace(graph.tensors[old], name=new) for old, new in names.items()]
    tensors += [
        Tensor(name, graph.tensors[name].shape, DType.FLOAT32)
        for name in (*graph.inputs, *graph.outputs)
    ]
    nodes = [Node(f"quantize_{i}", "quantize", (i,), (names[i],)) for i in graph.inputs]
    for node in graph.nodes:
        nodes.append(
            replace(
                node,
                inputs=tuple(names.get(i, i) for i in node.inputs),
                outputs=tuple(names.get(o, o) for o in node.outputs),
            )
        )
    nodes += [Node(f"dequantize_{o}", "dequantize", (names[o],), (o,)) for o in graph.outputs]
    state = [
        replace(s, tensor=names.get(s.tensor, s.tensor), next=names.get(s.next, s.next))
        for s in graph.state
    ]
    return rebuild(graph, nodes=nodes, tensors=tensors, state=state)
