"""A .tflite's subgraph turned into IR step by step: what the importers of the ops work with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.frontends.flatbuffer import MAX_EXPANDED_BYTES
from tinsmith.pipeline.frontends.tflite_file import (
    FileOperator,
    FileQuant,
    FileSubgraph,
    FileTensor,
    TfliteFile,
)
from tinsmith.pipeline.graph import (
    NO_ATTRS,
    Array,
    DType,
    Node,
    QuantParams,
    StateVar,
    Tensor,
)
from tinsmith.pipeline.numerics import integer_range
from tinsmith.pipeline.ops import OPS, OpCall
from tinsmith.pipeline.verify import quant_reasons

TYPES: Mapping[str, DType] = {
    "FLOAT32": DType.FLOAT32,
    "INT8": DType.INT8,
    "INT4": DType.INT8,
    "UINT8": DType.UINT8,
    "INT16": DType.INT16,
    "INT32": DType.INT32,
    "INT64": DType.INT64,
    "BOOL": DType.BOOL,
}


class DependsOnUnsupported(Exception):
    """An input comes from a layer that is reported already."""


@dataclass
class Variable:
    """A TFLite variable: what a reset sets it to, and the tensors it is at the start and now."""

    name: str
    initial: FileTensor | None = None
    start: Tensor | None = None
    now: Tensor | None = None


@dataclass
class Importer:
    """The IR made so far of a subgraph; `values` says which IR tensor holds a file's tensor."""

    file: TfliteFile
    sub: FileSubgraph
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    values: dict[int, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    handles: dict[int, Variable] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    names: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    folded_bytes: int = 0
    pretended: bool = False

    def __post_init__(self) -> None:
        self.names = unique_names([t.name for t in self.sub.tensors])
        self.taken = set(self.names)

    # What operators read

    def tensor(self, index: int) -> Tensor:
        """The IR tensor that holds a file's tensor, with constants made on first use."""
        if index in self.broken:
            raise DependsOnUnsupported
        if index in self.values:
            return self.tensors[self.values[index]]
        t = self.sub.tensors[index]
        if t.data is None:
            raise ModelError(
                f"tensor '{self.names[index]}' is read before it is computed: the operators form a "
                "cycle, or one is missing"
            )
        data = np.asarray(t.data, np.float32) if t.type == "FLOAT16" else t.data
        return self.keep(index, self.described(index, data))

    def optional(self, op: FileOperator, i: int) -> Tensor | None:
        if i >= len(op.inputs) or op.inputs[i] < 0:
            return None
        return self.tensor(op.inputs[i])

    def input(self, op: FileOperator, i: int) -> Tensor:
        """Input i of an operator; ModelError where it has none."""
        return self.tensor(self.input_index(op, i))

    def input_index(self, op: FileOperator, i: int) -> int:
        if i >= len(op.inputs) or op.inputs[i] < 0:
            raise ModelError(f"{self.label(op)}: input {i} is absent")
        return op.inputs[i]

    def integers(self, op: FileOperator, i: int, what: str) -> list[int]:
        """Input i of an operator as a constant list of integers."""
        index = self.input_index(op, i)
        data = self.sub.tensors[index].data
        if data is None and index in self.values:
            data = self.tensors[self.values[index]].data
        if data is None:
            raise UnsupportedModel(f"{what} are computed at run time; allowed: constant {what}")
        if data.dtype.kind not in "iu":
            raise ModelError(f"{self.label(op)}: {what} are {data.dtype}; allowed: integers")
        return [int(v) for v in data.reshape(-1)]

    def declared(self, index: int) -> FileTensor:
        return self.sub.tensors[index]

    def label(self, op: FileOperator) -> str:
        """How messages name an operator: its kind, its first output, and its place in the file."""
        name = self.names[op.outputs[0]] if op.outputs else ""
        if op.as_uint8:
            name = name.removesuffix("_int8")  # of an output that stays uint8 in the file
        return f"{op.code} '{name}' (operator {op.index})"

    # What operators make

    def node(
        self,
        op: FileOperator,
        name: str,
        inputs: Sequence[Tensor | None],
        attrs: Any = NO_ATTRS,
        also: Sequence[Tensor] = (),
    ) -> None:
        """Adds a node that computes the operator's outputs, or folds it where all is constant.

        also: outputs of the node behind those, which the file does not name.
        """
        definition = OPS[name]
        label = self.names[op.outputs[0]] if op.outputs else name
        specs = definition.infer(OpCall(label, attrs, tuple(inputs), self._drafts(op)))
        named = len(specs) - len(also)
        if named != len(op.outputs):
            raise ModelError(f"{self.label(op)}: {len(op.outputs)} outputs, expected {named}")
        outputs = []
        for index, spec in zip(op.outputs, specs[:named], strict=True):
            self._check_new(index)
            out = self.described(index)
            if out.dtype is not spec.dtype:
                raise UnsupportedModel(f"its output is {out.dtype.value}, not {spec.dtype.value}")
            if out.shape not in (spec.shape, ()):
                raise ModelError(
                    f"{self.label(op)}: its output is said to be {list(out.shape)}, "
                    f"but it computes {list(spec.shape)}"
                )
            outputs.append(Tensor(out.name, spec.shape, out.dtype, out.quant))
        made = self._emit(op, name, OpCall(label, attrs, tuple(inputs), (*outputs, *also)))
        for index, tensor in zip(op.outputs, made[:named], strict=True):
            self.keep(index, tensor)
        self.tensors.update((t.name, t) for t in made[named:])

    def moved(
        self,
        op: FileOperator,
        name: str,
        inputs: Sequence[Tensor],
        attrs: Any,
        wish: str,
        quant: QuantParams | None = None,
    ) -> list[Tensor]:
        """The outputs of a node on the way to an operator's outputs; without quant they keep the
        scale."""
        label = self.fresh(f"{self.names[op.outputs[0]] if op.outputs else name}/{wish}")
        specs = OPS[name].infer(OpCall(label, attrs, tuple(inputs), ()))
        names = (
            [label] if len(specs) == 1 else [self.fresh(f"{label}{i}") for i in range(len(specs))]
        )
        outputs = tuple(
            Tensor(n, spec.shape, spec.dtype, quant or inputs[0].quant)
            for n, spec in zip(names, specs, strict=True)
        )
        made = self._emit(op, name, OpCall(label, attrs, tuple(inputs), outputs))
        self.tensors.update((t.name, t) for t in made)
        return made

    def _emit(self, op: FileOperator, name: str, call: OpCall) -> list[Tensor]:
        """Adds the node of a call, or folds it where all is constant; what its outputs are."""
        definition = OPS[name]
        reasons = (*quant_reasons(definition, call), *definition.accepts(call))
        if reasons:
            raise UnsupportedModel("; ".join(reasons))
        if call.inputs and all(t is None or t.is_constant for t in call.inputs):
            return self._folded(op, name, call)
        node_inputs = tuple("" if t is None else t.name for t in call.inputs)
        names = tuple(t.name for t in call.outputs)
        self.nodes.append(Node(call.name, name, node_inputs, names, call.attrs))
        return list(call.outputs)

    def pretend(self, op: FileOperator) -> None:
        """Takes an unsupported operator's outputs for what the file says, to check later layers."""
        self.pretended = True
        for index in op.outputs:
            if index in self.values:
                continue
            try:
                self.keep(index, self.described(index))
            except ModelError:
                self.broken.add(index)

    def fresh(self, wish: str) -> str:
        """A name that no tensor and no node has, nor will have by the file."""
        name, i = wish, 1
        while name in self.taken:
            name, i = f"{wish}_{i}", i + 1
        self.taken.add(name)
        return name

    def alias(self, index: int, tensor: Tensor) -> None:
        """Makes a file's tensor another name of a value that the IR has."""
        self._check_new(index)
        self.values[index] = tensor.name

    def add_input(self, index: int) -> str:
        self._check_new(index)
        return self.keep(index, self.described(index)).name

    def _drafts(self, op: FileOperator) -> tuple[Tensor, ...]:
        """Outputs as the file declares them, for the ops whose output type is not the input's."""
        return tuple(self.described(index) for index in op.outputs)

    def described(self, index: int, data: Array | None = None) -> Tensor:
        """The IR tensor that a file's tensor describes."""
        t, name = self.sub.tensors[index], self.names[index]
        if data is not None:
            if t.type == "FLOAT16":
                return Tensor(name, t.shape, DType.FLOAT32, None, data)
            if t.type in TYPES:
                return Tensor(name, t.shape, TYPES[t.type], quant_of(t), data)
        if t.type not in TYPES or t.type == "INT4":
            allowed = ", ".join(k for k in TYPES if k != "INT4")
            raise UnsupportedModel(f"tensor '{name}' is {t.type}; allowed: {allowed}")
        if 0 in t.shape:
            raise UnsupportedModel(f"tensor '{name}' has no elements: {list(t.shape)}")
        return Tensor(name, t.shape, TYPES[t.type], quant_of(t))

    def keep(self, index: int, tensor: Tensor) -> Tensor:
        self.tensors[tensor.name] = tensor
        self.values[index] = tensor.name
        return tensor

    def _check_new(self, index: int) -> None:
        if index in self.values or self.sub.tensors[index].data is not None:
            raise ModelError(
                f"tensor '{self.names[index]}' has two sources; allowed: one of a constant, an "
                "input, or an operator"
            )

    def _folded(self, op: FileOperator, name: str, call: OpCall) -> list[Tensor]:
        self.folded_bytes += sum(t.nbytes for t in call.outputs)
        if self.folded_bytes > MAX_EXPANDED_BYTES:
            raise ModelError(
                f"{self.label(op)}: constants expand beyond {MAX_EXPANDED_BYTES >> 20} MB"
            )
        definition = OPS[name]
        is_float = call.output.dtype is DType.FLOAT32
        run = definition.run_float if is_float else definition.run_int
        results = run(call, [None if t is None else t.data for t in call.inputs])
        return [
            Tensor(t.name, t.shape, t.dtype, t.quant, data)
            for t, data in zip(call.outputs, results, strict=True)
        ]

    def named_nodes(self) -> tuple[Node, ...]:
        """The nodes, with short names in place of those of their first outputs."""
        names = unique_names([layer_name(n.outputs[0], n.op) for n in self.nodes])
        return tuple(replace(n, name=name) for n, name in zip(self.nodes, names, strict=True))

    # State

    def state(self) -> tuple[StateVar, ...]:
        """The variables that are read, as what they hold at the start and at the end of a step."""
        made = []
        for var in self.variables.values():
            if var.start is None:
                continue
            assert var.now is not None and var.initial is not None and var.initial.data is not None
            if (var.now.shape, var.now.dtype) != (var.start.shape, var.start.dtype):
                raise ModelError(f"variable '{var.name}' changes its shape or type")
            made.append(StateVar(var.name, var.start.name, var.now.name, var.initial.data))
        return tuple(made)


LONGEST_NAME = 40
# What converters name the outputs of a whole model: the op says more.
_EMPTY_NAMES = ("StatefulPartitionedCall", "PartitionedCall", "Identity")


def layer_name(tensor: str, op: str) -> str:
    """A short name for the node whose first output is `tensor`; other nodes may have the same.

    Converters join the names of all that went into a layer by semicolons, each a path.
    """
    plain = "".join(c if c.isprintable() else "?" for c in tensor.split(";")[0])
    parts = [p for p in plain.split("/") if p]
    if parts:
        parts[-1] = re.sub(r":\d+$", "", parts[-1])
    if not parts or parts[-1].rstrip("_0123456789").removesuffix("_int") in _EMPTY_NAMES:
        return op
    name = "/".join(parts[-2:])
    return name if len(name) <= LONGEST_NAME else parts[-1][:LONGEST_NAME]


def unique_names(wishes: Sequence[str]) -> list[str]:
    """The wishes, with a number behind each that came before."""
    taken: set[str] = set(wishes)
    seen: set[str] = set()
    counts: dict[str, int] = {}
    names = []
    for wish in wishes:
        name = wish
        while name in seen:
            counts[wish] = counts.get(wish, 0) + 1
            candidate = f"{wish}_{counts[wish]}"
            name = candidate if candidate not in taken else name
        seen.add(name)
        taken.add(name)
        names.append(name)
    return names


def quant_of(t: FileTensor) -> QuantParams | None:
    """The quantization of a tensor; ModelError where it is broken and its type relies on it.

    A wide integer is a bias or an index, whose own scale nobody reads: a broken one counts as none.
    """
    if t.quant is None or t.type not in TYPES or t.type in ("FLOAT32", "BOOL", "INT64"):
        return None
    if t.quant.scale.size == 0:
        return None
    problem = _quant_problem(t, t.quant)
    if problem:
        if t.type == "INT32":
            return None
        raise ModelError(f"tensor '{t.name}': {problem}")
    count = t.quant.scale.size
    zero = t.quant.zero_point if t.quant.zero_point.size else np.zeros(1, np.int64)
    zeros = tuple(int(z) for z in np.broadcast_to(zero, count))
    axis = None if count == 1 else _axis(t, t.quant)
    bits = 4 if t.type == "INT4" else 8
    return QuantParams(tuple(float(s) for s in t.quant.scale), zeros, axis, bits)


def _axis(t: FileTensor, quant: FileQuant) -> int | None:
    """The axis of per-channel scales, None where there is none.

    Old converters wrote the weights' axis for the bias as well: a vector has no axis but 0.
    """
    axis = 0 if len(t.shape) == 1 else quant.axis
    fits = 0 <= axis < len(t.shape) and t.shape[axis] == quant.scale.size
    return axis if fits else None


def _quant_problem(t: FileTensor, quant: FileQuant) -> str:
    """What is wrong with a quantization, empty where nothing is."""
    count, zeros = quant.scale.size, quant.zero_point
    if quant.details:
        return "its scales are of a kind that is not supported; allowed: per tensor, per channel"
    if not np.all(np.isfinite(quant.scale)) or np.any(quant.scale <= 0):
        return f"scale {quant.scale.min()} is not allowed; it must be finite and above 0"
    if zeros.size not in (0, 1, count):
        return f"{zeros.size} zero points for {count} scales"
    if count > 1 and _axis(t, quant) is None:
        return f"{count} scales along axis {quant.axis} of shape {list(t.shape)}"
    low, high = integer_range(TYPES[t.type])
    if zeros.size and (zeros.min() < low or zeros.max() > high):
        return f"zero point {zeros.min()}..{zeros.max()}; allowed: {low} to {high}"
    return ""
