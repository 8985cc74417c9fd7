"""From a float graph to an integer graph: `quantize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import overload

import numpy as np

from tinsmith.pipeline.errors import DataError, UnsupportedModel
from tinsmith.pipeline.graph import DType, Graph, QuantParams, Tensor
from tinsmith.pipeline.ops import OPS, call_of
from tinsmith.pipeline.passes.drop_requantize import drop_requantize
from tinsmith.pipeline.quantization import recurrent
from tinsmith.pipeline.quantization.bias_correction import correct_biases
from tinsmith.pipeline.quantization.calibrate import (
    Samples,
    calibrate,
    channel_means,
    check_samples,
)
from tinsmith.pipeline.quantization.carried import carried_parameters, is_note
from tinsmith.pipeline.quantization.equalize import equalize
from tinsmith.pipeline.quantization.integer_graph import (
    activations,
    float_borders,
    integer_graph,
    parameter_slots,
    weight_slots,
)
from tinsmith.pipeline.quantization.observers import Range
from tinsmith.pipeline.quantization.options import Progress, QuantizeOptions
from tinsmith.pipeline.quantization.ranges import (
    Groups,
    fixed_parameters,
    parameters_of_ranges,
    shared_groups,
)
from tinsmith.pipeline.quantization.separate import separate_scales
from tinsmith.pipeline.verify import verify


def quantize(
    graph: Graph,
    samples: Samples | None = None,
    options: QuantizeOptions | None = None,
    progress: Progress | None = None,
) -> Graph:
    """The integer graph of a float graph, calibrated on samples: int8, or int16 activations.

    graph: float, after FLOAT_PASSES. Tensors and nodes keep their names, so that both graphs can be
        compared layer by layer. Parameters that it carries from an already quantized model stand.
    samples: arrays [N, *input shape] by input name; where an input's first dimension is 1, arrays
        without it are taken too. They may be left out where every tensor has a range.
    progress: told of each layer whose rounding is learned.
    Raises DataError for samples that don't fit, and UnsupportedModel with every op that has no
    integer form, or for int16 where the graph carries the parameters of an int8 model.
    """
    options = options or QuantizeOptions()
    if any(t.quant is not None and t.dtype.is_integer for t in graph.tensors.values()):
        raise DataError("the graph is quantized already; expected a float graph")
    unknown = [name for name in options.ranges if name not in graph.tensors]
    if unknown:
        raise DataError(
            f"ranges are given for {', '.join(unknown[:5])}, which the graph has not; "
            f"it has {', '.join(activations(graph))}"
        )
    options = replace(options, layers=layer_grids(graph, options))
    _check_ops(graph, options)
    if options.wide or options.symmetric or not options.plain_weights:
        _check_free(graph)
    if options.equalize or options.correct_biases or options.rounding == "adaround":
        _check_calibrated(graph, samples)
    if options.equalize:
        graph = equalize(graph)
    graph = separate_scales(graph)
    groups = _groups(graph)
    known = carried_parameters(graph, groups, fixed_parameters(graph, wide=options.wide))
    seen = _ranges_of_constants(graph)
    missing = _without_range(graph, groups, known, options)
    if missing and not samples:
        raise DataError(
            f"there are no calibration samples, but {len(missing)} tensors have no range: "
            f"{', '.join(missing[:5])}; give samples"
        )
    adaround = options.rounding == "adaround"
    asked = bool(missing) or options.correct_biases or adaround
    checked = check_samples(graph, samples) if samples and asked else {}
    if missing:
        steps = (1 << options.activations) - 1
        seen |= calibrate(graph, checked, options.observer, options.percentile, steps)
    known |= _cell_parameters(graph, groups, seen, options)
    names = activations(graph)
    params = parameters_of_ranges(
        names,
        groups,
        known,
        options.ranges,
        seen,
        wide=options.wide,
        power_of_two=options.power_of_two,
        own_zero=frozenset(map(groups.root, graph.inputs)) if options.symmetric else None,
    )
    quantized = integer_graph(graph, params, options)
    if adaround:
        # Only this needs torch.
        from tinsmith.pipeline.training.adaround import learn_rounding

        quantized = learn_rounding(quantized, graph, checked, options, progress)
    if options.correct_biases:
        quantized = correct_biases(quantized, graph, channel_means(graph, checked))
    quantized = drop_requantize(quantized)
    if options.float_io:
        quantized = float_borders(quantized)
    return verify(quantized)


def layers_with_weights(graph: Graph) -> tuple[str, ...]:
    """The names of the nodes whose weights a grid is chosen for, in order."""
    return tuple(node.name for node in graph.nodes if weight_slots(node))


def layer_grids(graph: Graph, options: QuantizeOptions) -> dict[str, str]:
    """The grid of every layer that has not the common one; DataError for a layer that is absent."""
    names = layers_with_weights(graph)
    unknown = [name for name in options.layers if name not in names]
    if unknown:
        raise DataError(
            f"weights are given for the layers {', '.join(unknown[:5])}, which the graph has not; "
            f"those with weights are {', '.join(names)}"
        )
    ends = {names[0], names[-1]} if options.int8_ends and names else set()
    return {**dict.fromkeys(sorted(ends), "int8"), **options.layers}


def tensors_without_range(graph: Graph) -> tuple[str, ...]:
    """What quantize needs samples for: the tensors whose parameters the graph doesn't carry."""
    graph = separate_scales(graph)
    groups = _groups(graph)
    known = carried_parameters(graph, groups, fixed_parameters(graph))
    return _without_range(graph, groups, known, QuantizeOptions())


def _without_range(
    graph: Graph, groups: Groups, known: Mapping[str, QuantParams], options: QuantizeOptions
) -> tuple[str, ...]:
    ranged = {*known, *(groups.root(name) for name in options.ranges)}
    return tuple(
        name
        for name in activations(graph)
        if groups.root(name) not in ranged and not graph.tensors[name].is_constant
    )


def _groups(graph: Graph) -> Groups:
    groups = shared_groups(graph)
    recurrent.join_hidden(graph, groups)
    return groups


def _cell_parameters(
    graph: Graph, groups: Groups, seen: Mapping[str, Range], options: QuantizeOptions
) -> dict[str, QuantParams]:
    """The parameters of the cell states of recurrent layers, by root of their group."""
    found: dict[str, Range] = {}
    for name in recurrent.cell_tensors(graph):
        low, high = options.ranges.get(name) or seen.get(name, (0.0, 0.0))
        a, b = found.get(groups.root(name), (0.0, 0.0))
        found[groups.root(name)] = (min(a, low), max(b, high))
    return {root: recurrent.cell_parameters(*r) for root, r in found.items()}


def _ranges_of_constants(graph: Graph) -> dict[str, Range]:
    """The ranges of constants that are read as activations, and of the initial state."""
    values = {v.tensor: v.initial for v in graph.state}
    values |= {
        name: data for name in activations(graph) if (data := graph.tensors[name].data) is not None
    }
    return {name: (float(x.min()), float(x.max())) for name, x in values.items() if x.size}


def _check_free(graph: Graph) -> None:
    """UnsupportedModel where the graph carries parameters, which are those of a model of int8."""
    carried = [n.outputs[0] for n in graph.nodes if is_note(graph, n)]
    carried += [name for name, t in graph.tensors.items() if t.quant is not None]
    if carried:
        raise UnsupportedModel(
            f"'{carried[0]}' carries the parameters of an int8 model, which int16 activations, "
            "other weights, other scales and other zero points can't keep; allowed: 8 bits, or a "
            "model that is not quantized"
        )


def _check_calibrated(graph: Graph, samples: Samples | None) -> None:
    """DataError where there is nothing to equalize, correct or learn: no samples, or carried
    weights."""
    carried = [name for name, t in graph.tensors.items() if t.is_constant and t.quant is not None]
    if carried:
        raise DataError(
            f"'{carried[0]}' carries the integers of a quantized model; equalization, bias "
            "correction and adaround are for models that are not quantized"
        )
    if not samples:
        raise DataError(
            "equalization, bias correction and adaround need calibration samples; give some"
        )


def _check_ops(graph: Graph, options: QuantizeOptions) -> None:
    """UnsupportedModel with every node that can't be an integer node."""
    reasons: list[str] = []
    cells = recurrent.cell_tensors(graph)
    for node in graph.nodes:
        call = call_of(graph, node)
        biases = recurrent.BIASES if node.op == recurrent.LSTM else (OPS[node.op].bias,)
        slots = parameter_slots(node)
        inputs = tuple(
            _as_integers(t, _integer_type(t, cells, options, i in biases, i in slots))
            for i, t in enumerate(call.inputs)
        )
        outputs = tuple(_as_integers(t, _integer_type(t, cells, options)) for t in call.outputs)
        found = OPS[node.op].accepts(replace(call, inputs=inputs, outputs=outputs))
        reasons += [f"{node.op} '{node.name}': {r}" for r in found]
    if reasons:
        lines = "\n".join(f"  {r}" for r in reasons)
        raise UnsupportedModel(f"these layers have no int{options.activations} form:\n{lines}")


def _integer_type(
    t: Tensor | None,
    cells: frozenset[str],
    options: QuantizeOptions,
    bias: bool = False,
    parameter: bool = False,
) -> DType:
    """The type that a tensor has in the integer graph. parameter: weights or a bias."""
    if bias:
        return DType.INT64 if options.wide else DType.INT32
    if parameter:
        return DType.INT8
    cell = t is not None and t.name in cells
    return DType.INT16 if cell or options.wide else DType.INT8


@overload
def _as_integers(t: Tensor, dtype: DType) -> Tensor: ...
@overload
def _as_integers(t: None, dtype: DType) -> None: ...
def _as_integers(t: Tensor | None, dtype: DType) -> Tensor | None:
    """A tensor as the integer graph will have it, with any scale."""
    if t is None or t.dtype is not DType.FLOAT32:
        return t
    data = None if t.data is None else np.zeros(t.shape, dtype.numpy)
    return Tensor(t.name, t.shape, dtype, QuantParams.per_tensor(1.0), data)
