"""The graph IR: frozen tensors and nodes in topological order, and a builder.

Everything is NHWC. A tensor's name is its identity; a node refers to tensors by name. State
(recurrent hidden values, TFLite variables) is explicit and functional: each `StateVar` names the
tensor that holds the value at the start of a step and the tensor that holds it at the end.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError

Shape = tuple[int, ...]
Array = NDArray[Any]


class DType(enum.Enum):
    """The element type of a tensor; the value is numpy's name of it."""

    FLOAT32 = "float32"
    INT8 = "int8"
    UINT8 = "uint8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.value)

    @property
    def bytes(self) -> int:
        return self.numpy.itemsize

    @property
    def is_integer(self) -> bool:
        return self.numpy.kind in "iu"

    @staticmethod
    def of(array: Array) -> DType:
        return DType(array.dtype.name)


class Activation(enum.Enum):
    """An activation fused into the op that precedes it."""

    NONE = "none"
    RELU = "relu"
    RELU6 = "relu6"
    RELU_N1_TO_1 = "relu_n1_to_1"


@dataclass(frozen=True)
class QuantParams:
    """Affine quantization: real = scale * (q - zero_point).

    scale: float32 values, one (per tensor) or one per index of `axis` (per channel).
    zero_point: as many as scale, or one.
    bits: width of the stored value; 4-bit weights are int8 tensors with bits=4.
    block: elements of the axis that share a scale, None for one scale an index.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...] = (0,)
    axis: int | None = None
    bits: int = 8
    block: int | None = None

    def __post_init__(self) -> None:
        scale = np.asarray(self.scale, np.float32)
        if scale.ndim != 1 or scale.size == 0:
            raise ModelError("quantization: scale is empty; allowed: one value or one per channel")
        if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
            raise ModelError(
                f"quantization: scale {scale.min()!r} is not allowed; it must be finite and above 0"
            )
        zero_point = tuple(int(z) for z in self.zero_point)
        if len(zero_point) not in (1, scale.size):
            raise ModelError(
                f"quantization: {len(zero_point)} zero points for {scale.size} scales; "
                "allowed: one, or as many as scales"
            )
        if self.axis is None and scale.size != 1:
            raise ModelError(f"quantization: {scale.size} scales without an axis")
        # Kept as float32 values, since that is what every file format and every oracle stores.
        object.__setattr__(self, "scale", tuple(float(s) for s in scale))
        object.__setattr__(self, "zero_point", zero_point)

    @property
    def per_channel(self) -> bool:
        return self.axis is not None

    @property
    def scales(self) -> NDArray[np.float32]:
        return np.asarray(self.scale, np.float32)

    @property
    def zero_points(self) -> NDArray[np.int64]:
        return np.asarray(self.zero_point, np.int64)

    @staticmethod
    def per_tensor(scale: float, zero_point: int = 0, bits: int = 8) -> QuantParams:
        return QuantParams((float(scale),), (int(zero_point),), None, bits)


@dataclass(frozen=True)
class Encoding:
    """How a constant is stored; the interpreter sees the logical value, a kernel this form."""

    kind: str = "dense"


DENSE = Encoding()


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the graph. `data` is None for what is computed, else the (read-only) constant."""

    name: str
    shape: Shape
    dtype: DType
    quant: QuantParams | None = None
    data: Array | None = None
    encoding: Encoding = DENSE

    def __post_init__(self) -> None:
        shape = tuple(int(d) for d in self.shape)
        object.__setattr__(self, "shape", shape)
        if any(d < 0 for d in shape):
            raise ModelError(f"tensor '{self.name}': shape {list(shape)} has a negative dimension")
        if self.data is None:
            return
        data = np.asarray(self.data)
        if data.shape != shape or data.dtype != self.dtype.numpy:
            raise ModelError(
                f"tensor '{self.name}': the constant is {data.dtype}{list(data.shape)}, "
                f"but the tensor says {self.dtype.value}{list(shape)}"
            )
        data = data.view()
        data.flags.writeable = False
        object.__setattr__(self, "data", data)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.bytes

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def scale(self) -> float:
        """The per-tensor scale, a float32 value; a bug to ask where there is none."""
        assert self.quant is not None and len(self.quant.scale) == 1, self.name
        return self.quant.scale[0]

    @property
    def zero_point(self) -> int:
        """The per-tensor zero point; a bug to ask where there is none."""
        assert self.quant is not None and len(self.quant.zero_point) == 1, self.name
        return self.quant.zero_point[0]

    def value(self) -> Array:
        """The constant; a bug to ask of a tensor that is computed."""
        assert self.data is not None, self.name
        return self.data


@dataclass(frozen=True)
class NoAttrs:
    """The attributes of an op that has none."""


NO_ATTRS = NoAttrs()


@dataclass(frozen=True)
class Node:
    """One operation. An absent optional input is the empty name; attrs is the op's dataclass."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Any = NO_ATTRS


@dataclass(frozen=True, eq=False)
class StateVar:
    """A value kept from step to step.

    tensor: name of the tensor that holds it when a step starts (no node produces it).
    next: name of the tensor that holds it when the step ends.
    initial: what reset sets it to.
    """

    name: str
    tensor: str
    next: str
    initial: Array


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in topological order over named tensors."""

    name: str
    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    state: tuple[StateVar, ...] = ()
    _producers: Mapping[str, Node] = field(init=False, repr=False)
    _consumers: Mapping[str, tuple[Node, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        producers: dict[str, Node] = {}
        consumers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for out in node.outputs:
                producers[out] = node
            for name in dict.fromkeys(node.inputs):
                consumers.setdefault(name, []).append(node)
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        object.__setattr__(self, "_producers", producers)
        object.__setattr__(self, "_consumers", {k: tuple(v) for k, v in consumers.items()})

    def producer(self, tensor: str) -> Node | None:
        return self._producers.get(tensor)

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read a tensor, each once, in order."""
        return self._consumers.get(tensor, ())

    def ins(self, node: Node) -> tuple[Tensor | None, ...]:
        return tuple(self.tensors[i] if i else None for i in node.inputs)

    def outs(self, node: Node) -> tuple[Tensor, ...]:
        return tuple(self.tensors[o] for o in node.outputs)

    @property
    def is_quantized(self) -> bool:
        """True where no node computes in float but for those at the borders that convert."""
        return all(
            self.tensors[name].dtype is not DType.FLOAT32
            for node in self.nodes
            if node.op not in ("quantize", "dequantize", "cast")
            for name in (*node.inputs, *node.outputs)
            if name
        )

    def live_outputs(self) -> frozenset[str]:
        """Tensors that must exist when a step ends: the outputs and the next state."""
        return frozenset(self.outputs) | {s.next for s in self.state}


def rebuild(
    graph: Graph,
    *,
    nodes: Iterable[Node] | None = None,
    tensors: Iterable[Tensor] = (),
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    state: Sequence[StateVar] | None = None,
) -> Graph:
    """A new graph with other nodes and added or replaced tensors; unused tensors are dropped.

    Nodes are put into topological order (stable: the given order is kept where it can be).
    """
    pool = dict(graph.tensors)
    pool.update((t.name, t) for t in tensors)
    new_nodes = tuple(graph.nodes if nodes is None else nodes)
    new_inputs = tuple(graph.inputs if inputs is None else inputs)
    new_outputs = tuple(graph.outputs if outputs is None else outputs)
    new_state = tuple(graph.state if state is None else state)
    used = {name for n in new_nodes for name in (*n.inputs, *n.outputs) if name}
    used |= {
        *new_inputs,
        *new_outputs,
        *(s.tensor for s in new_state),
        *(s.next for s in new_state),
    }
    kept = {name: t for name, t in pool.items() if name in used}
    return Graph(graph.name, kept, topological_order(new_nodes), new_inputs, new_outputs, new_state)


def topological_order(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Nodes so that each follows the producers of its inputs; stable. ModelError on a cycle."""
    produced = {out for n in nodes for out in n.outputs}
    waiting: dict[str, list[int]] = {}
    missing: list[int] = []
    for i, node in enumerate(nodes):
        needs = {name for name in node.inputs if name in produced}
        missing.append(len(needs))
        for name in needs:
            waiting.setdefault(name, []).append(i)
    import heapq

    ready = [i for i, m in enumerate(missing) if m == 0]
    heapq.heapify(ready)
    order: list[Node] = []
    while ready:
        node = nodes[heapq.heappop(ready)]
        order.append(node)
        for out in node.outputs:
            for j in waiting.get(out, ()):
                missing[j] -= 1
                if missing[j] == 0:
                    heapq.heappush(ready, j)
    if len(order) != len(nodes):
        done = {n.name for n in order}
        stuck = [n.name for n in nodes if n.name not in done]
        raise ModelError(f"the graph has a cycle through {', '.join(stuck[:5])}")
    return tuple(order)


def dequantize_array(q: Array, quant: QuantParams) -> NDArray[np.float32]:
    """Real values of a quantized array: scale * (q - zero_point), broadcast along the axis."""
    shape = [1] * q.ndim
    if quant.axis is not None:
        shape[quant.axis] = -1
    scale = quant.scales.reshape(shape)
    if quant.block is not None and quant.axis is not None:
        scale = np.repeat(scale, quant.block, axis=quant.axis)
    zero = quant.zero_points.reshape(shape if quant.zero_points.size > 1 else [1] * q.ndim)
    real = (q.astype(np.float64) - zero) * scale.astype(np.float64)
    return np.asarray(real, np.float32)


class GraphBuilder:
    """Builds a graph node by node, with shapes and dtypes from the ops' own rules.

    >>> b = GraphBuilder("net")
    >>> x = b.input("x", (1, 8, 8, 3), DType.INT8, QuantParams.per_tensor(0.5, 3))
    >>> y = b.node("relu", [x], quant=QuantParams.per_tensor(0.5, 3))
    >>> graph = b.build([y])
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.inputs: list[str] = []
        self.state: list[StateVar] = []

    def fresh(self, base: str) -> str:
        """A name that no tensor has yet, from the wish `base`."""
        name, i = base, 1
        while name in self.tensors:
            name, i = f"{base}_{i}", i + 1
        return name

    def add_tensor(self, tensor: Tensor) -> str:
        assert tensor.name and tensor.name not in self.tensors, tensor.name
        self.tensors[tensor.name] = tensor
        return tensor.name

    def input(
        self,
        name: str,
        shape: Sequence[int],
        dtype: DType = DType.FLOAT32,
        quant: QuantParams | None = None,
    ) -> str:
        self.inputs.append(self.add_tensor(Tensor(name, tuple(shape), dtype, quant)))
        return name

    def constant(self, name: str, data: Array, quant: QuantParams | None = None) -> str:
        data = np.asarray(data)
        return self.add_tensor(Tensor(self.fresh(name), data.shape, DType.of(data), quant, data))

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Any = NO_ATTRS,
        *,
        name: str | None = None,
        quant: QuantParams | Sequence[QuantParams | None] | None = None,
        dtype: DType | None = None,
    ) -> str:
        """Adds a node with one output and returns its name; `nodes_out` is for several."""
        return self.node_multi(op, inputs, attrs, name=name, quant=quant, dtype=dtype)[0]

    def node_multi(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Any = NO_ATTRS,
        *,
        name: str | None = None,
        quant: QuantParams | Sequence[QuantParams | None] | None = None,
        dtype: DType | None = None,
    ) -> tuple[str, ...]:
        from tinsmith.pipeline.ops import OPS, OpCall

        label = name or f"{op}_{len(self.nodes)}"
        ins = tuple(self.tensors[i] if i else None for i in inputs)
        specs = OPS[op].infer(OpCall(label, attrs, ins, (), op))
        if quant is None or isinstance(quant, QuantParams):
            quants: list[QuantParams | None] = [quant] * len(specs)
        else:
            quants = list(quant)
        names = []
        for i, (spec, q) in enumerate(zip(specs, quants, strict=True)):
            wish = f"{label}_out" if len(specs) == 1 else f"{label}_out{i}"
            out = Tensor(self.fresh(wish), spec.shape, dtype or spec.dtype, q)
            names.append(self.add_tensor(out))
        self.nodes.append(Node(label, op, tuple(inputs), tuple(names), attrs))
        return tuple(names)

    def state_var(self, name: str, initial: Array, quant: QuantParams | None = None) -> str:
        """Declares a state variable and returns the tensor that holds it at the step's start."""
        initial = np.asarray(initial)
        tensor = Tensor(self.fresh(name), initial.shape, DType.of(initial), quant)
        self.add_tensor(tensor)
        self.state.append(StateVar(name, tensor.name, tensor.name, initial))
        return tensor.name

    def assign(self, name: str, value: str) -> None:
        """Makes `value` what the state variable `name` holds when the step ends."""
        self.state = [replace(s, next=value) if s.name == name else s for s in self.state]

    def build(self, outputs: Sequence[str]) -> Graph:
        from tinsmith.pipeline.verify import verify

        return verify(
            Graph(
                self.name,
                self.tensors,
                tuple(self.nodes),
                tuple(self.inputs),
                tuple(outputs),
                tuple(self.state),
            )
        )
