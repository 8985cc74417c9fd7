"""What the importers of single ONNX ops work with: values so far, and ways to emit nodes.

A value of the ONNX graph is either a constant array or a tensor of the graph under construction,
in the layout that ONNX gives it (NCHW). Ops that this IR has only in NHWC are emitted between two
transposes, which the passes remove.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinsmith.pipeline.errors import ModelError
from tinsmith.pipeline.frontends.onnx_file import OnnxNode, check_shape
from tinsmith.pipeline.graph import (
    DENSE,
    NO_ATTRS,
    Array,
    DType,
    GraphBuilder,
    Node,
    QuantParams,
    Shape,
    Tensor,
)
from tinsmith.pipeline.ops import OPS, OpCall
from tinsmith.pipeline.ops.reshape import ReshapeAttrs
from tinsmith.pipeline.ops.transpose import TransposeAttrs
from tinsmith.pipeline.quantization.carried import CarriedIntegers


@dataclass(frozen=True, eq=False)
class Parameter:
    """A constant: its real values, and the integers and scales of them that the model has."""

    values: NDArray[np.float32]
    quant: QuantParams | None = None
    integers: Array | None = None

    @property
    def shape(self) -> Shape:
        return self.values.shape

    def transposed(self, perm: Sequence[int]) -> Parameter:
        quant = self.quant
        if quant is not None and quant.axis is not None:
            quant = replace(quant, axis=list(perm).index(quant.axis))
        integers = None if self.integers is None else self.integers.transpose(perm)
        values = np.ascontiguousarray(self.values.transpose(perm))
        return Parameter(values, quant, integers)

    def symmetric(self) -> Parameter:
        """As weights are kept: int8 with zero point 0; refused where they reach beyond that."""
        if self.quant is None or self.integers is None:
            return self
        if self.integers.dtype != np.int8:
            return Parameter(self.values)
        if not np.any(self.quant.zero_points):
            return replace(self, quant=replace(self.quant, zero_point=(0,)))
        shape = [1] * self.integers.ndim
        if self.quant.axis is not None and self.quant.zero_points.size > 1:
            shape[self.quant.axis] = -1
        centred = self.integers.astype(np.int16) - self.quant.zero_points.reshape(shape)
        if centred.min(initial=0) < -128 or centred.max(initial=0) > 127:
            raise Refused(
                "its weights are asymmetric: they have a zero point other than 0",
                "quantize the weights as symmetric int8",
            )
        quant = replace(self.quant, zero_point=(0,))
        return Parameter(self.values, quant, centred.astype(np.int8))

    def scaled(self, factor: float) -> Parameter:
        """Times a factor; any but 1 ends what is known of integers."""
        if factor == 1:
            return self
        return Parameter((self.values * np.float32(factor)).astype(np.float32))


# A constant, a constant with integers, or the name of a tensor.
Value = Array | Parameter | str

TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class Refused(Exception):
    """An ONNX node that can't be imported: why, and what the user can do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


@dataclass
class Context:
    """The graph under construction, and the value of every ONNX name computed so far."""

    builder: GraphBuilder
    opset: int
    values: dict[str, Value] = field(default_factory=dict)
    node_names: set[str] = field(default_factory=set)
    folded_elements: int = 0

    def value(self, node: OnnxNode, i: int) -> Value:
        if not node.has_input(i):
            raise ModelError(f"{node.op} '{node.name}': its input {i} is absent")
        return self.values[node.inputs[i]]

    def shape(self, value: Value) -> Shape:
        return self.builder.tensors[value].shape if isinstance(value, str) else value.shape

    def tensor(self, value: Value, name: str) -> str:
        """The tensor of a value; a constant becomes a float32 constant called `name`."""
        if isinstance(value, str):
            return value
        parameter = parameter_of(value)
        quant, integers = parameter.quant, parameter.integers
        if quant is not None and (
            quant.per_channel or integers is None or integers.dtype != np.int8
        ):
            parameter = Parameter(parameter.values)  # no form that an activation has
        return self.parameter_tensor(name, parameter)

    def parameter(self, node: OnnxNode, i: int, what: str) -> Parameter:
        """Input i as a constant; refused where it is computed."""
        value = self.value(node, i)
        if isinstance(value, str):
            raise Refused(f"its {what} are computed", f"use constant {what}")
        return parameter_of(value)

    def parameter_tensor(self, name: str, parameter: Parameter) -> str:
        """A float32 constant that carries the integers of a parameter."""
        values = parameter.values
        encoding = (
            DENSE if parameter.integers is None else CarriedIntegers(integers=parameter.integers)
        )
        name = self.builder.fresh(name or "constant")
        tensor = Tensor(name, values.shape, DType.FLOAT32, parameter.quant, values, encoding)
        return self.builder.add_tensor(tensor)

    def data(self, node: OnnxNode, i: int = 0) -> str:
        """Input i as a tensor of the graph, for ops that take activations."""
        return self.tensor(self.value(node, i), node.inputs[i])

    def weights(self, node: OnnxNode, i: int, what: str) -> NDArray[np.float32]:
        """Input i as a float32 constant; refused where it is computed."""
        return self.parameter(node, i, what).values

    def integers(self, node: OnnxNode, i: int, what: str) -> tuple[int, ...]:
        """Input i as constant integers, flattened; refused where it is computed."""
        value = self.value(node, i)
        if isinstance(value, str):
            raise Refused(f"its {what} is computed at run time", f"export with a fixed {what}")
        if isinstance(value, Parameter) or value.dtype.kind not in "iu":
            raise ModelError(f"{node.op} '{node.name}': its {what} is no constant of integers")
        return tuple(int(v) for v in value.reshape(-1))

    def scalar(self, node: OnnxNode, i: int, default: float, what: str) -> float:
        """Input i as one constant number, or the default where it is absent."""
        if not node.has_input(i):
            return default
        value = self.value(node, i)
        array = value.values if isinstance(value, Parameter) else value
        if isinstance(array, str) or array.size != 1:
            raise Refused(f"its {what} is not one constant number", f"use a constant {what}")
        return float(array.reshape(-1)[0])

    def constant(self, name: str, data: Array, quant: QuantParams | None = None) -> str:
        return self.builder.constant(name or "constant", data, quant)

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Any = NO_ATTRS,
        *,
        node: str,
        out: str,
        quant: QuantParams | None = None,
        dtype: DType | None = None,
    ) -> str:
        """Adds a node with one output; `node` and `out` are wishes for their names."""
        (name,) = self.emit_multi(
            op, inputs, attrs, node=node, outs=(out,), quant=quant, dtype=dtype
        )
        return name

    def emit_multi(
        self,
        op: str,
        inputs: Sequence[str],
        attrs: Any = NO_ATTRS,
        *,
        node: str,
        outs: Sequence[str],
        quant: QuantParams | None = None,
        dtype: DType | None = None,
    ) -> tuple[str, ...]:
        """Adds a node with as many outputs as the op has; outs: wishes, empty for unused ones."""
        label = self._fresh_node(node)
        ins = tuple(self.builder.tensors[i] if i else None for i in inputs)
        names = []
        for i, spec in enumerate(OPS[op].infer(OpCall(label, attrs, ins, ()))):
            shape = check_shape(f"{op} '{label}': its output", spec.shape)
            if 0 in shape:
                raise ModelError(f"{op} '{label}': its output has the empty shape {list(shape)}")
            wish = outs[i] if i < len(outs) and outs[i] else f"{label}_out{i}"
            tensor = Tensor(self.builder.fresh(wish), shape, dtype or spec.dtype, quant)
            names.append(self.builder.add_tensor(tensor))
        self.builder.nodes.append(Node(label, op, tuple(inputs), tuple(names), attrs))
        return tuple(names)

    def _fresh_node(self, wish: str) -> str:
        name, count = wish, 1
        while name in self.node_names:
            name, count = f"{wish}_{count}", count + 1
        self.node_names.add(name)
        return name

    def transpose(self, tensor: str, perm: Sequence[int], out: str | None = None) -> str:
        wish = out or f"{tensor}_t"
        quant = self.builder.tensors[tensor].quant
        attrs = TransposeAttrs(tuple(perm))
        return self.emit("transpose", [tensor], attrs, node=f"{wish}_t", out=wish, quant=quant)

    def reshape(self, tensor: str, shape: Sequence[int], out: str | None = None) -> str:
        shape = tuple(int(d) for d in shape)
        if shape == self.builder.tensors[tensor].shape and out is None:
            return tensor
        wish = out or f"{tensor}_r"
        quant = self.builder.tensors[tensor].quant
        return self.emit(
            "reshape", [tensor], ReshapeAttrs(shape), node=f"{wish}_r", out=wish, quant=quant
        )

    def in_nhwc(self, tensor: str, label: str, body: Callable[[str], str]) -> str:
        """body on the NHWC form of an NCHW or NCL tensor, and its result in the layout of before.

        label: of the op in messages. A tensor of rank 3 is an image of height 1.
        """
        shape = self.builder.tensors[tensor].shape
        if len(shape) not in (3, 4):
            raise Refused(
                f"its input has the shape {list(shape)}",
                "use 1-D or 2-D windows: inputs of rank 3 [n, c, length] or 4 [n, c, h, w]",
            )
        if len(shape) == 3:
            tensor = self.reshape(tensor, (shape[0], shape[1], 1, shape[2]))
        y = self.transpose(body(self.transpose(tensor, TO_NHWC)), TO_NCHW)
        if len(shape) == 3:
            n, c, _, length = self.builder.tensors[y].shape
            y = self.reshape(y, (n, c, length))
        return y


def parameter_of(value: Array | Parameter) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(float_array(value))


def float_array(value: Array) -> NDArray[np.float32]:
    """A constant as float32; ModelError where it holds what float32 can't."""
    if value.dtype.kind not in "fiub" and value.dtype.name != "bfloat16":
        raise ModelError(f"a constant is {value.dtype}; allowed: numbers")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(value, np.float32)


def positive_axis(label: str, axis: int, rank: int) -> int:
    """axis counted from the front; ModelError where the rank has it not."""
    if not -rank <= axis < rank:
        raise ModelError(f"{label}: axis {axis} of a tensor of rank {rank}")
    return axis % rank
