"""What importers of .tflite ops share: options, activations, axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from ai_edge_litert import schema_py_generated as schema

from tinsmith.pipeline.errors import ModelError, UnsupportedModel
from tinsmith.pipeline.frontends.tflite_file import FileOperator
from tinsmith.pipeline.frontends.tflite_import import Importer
from tinsmith.pipeline.graph import Activation

OpImporter = Callable[[Importer, FileOperator], None]
O = TypeVar("O")  # noqa: E741 - the type of an op's options
MAX_SHOWN = 8  # items of a list in a message

ACTIVATIONS: Mapping[int, Activation] = {
    schema.ActivationFunctionType.NONE: Activation.NONE,
    schema.ActivationFunctionType.RELU: Activation.RELU,
    schema.ActivationFunctionType.RELU6: Activation.RELU6,
    schema.ActivationFunctionType.RELU_N1_TO_1: Activation.RELU_N1_TO_1,
}


def options_of(im: Importer, op: FileOperator, kind: type[O]) -> O:
    """The operator's options; the schema's defaults where the file leaves them out."""
    if op.options is None:
        return kind()
    if not isinstance(op.options, kind):
        raise ModelError(f"{im.label(op)}: its options are {type(op.options).__name__}")
    return op.options


def activation_of(code: int) -> Activation:
    if code not in ACTIVATIONS:
        allowed = ", ".join(a.value for a in ACTIVATIONS.values())
        raise UnsupportedModel(f"fused activation {code}; allowed: {allowed}")
    return ACTIVATIONS[code]


def axes_of(im: Importer, op: FileOperator, axes: list[int], rank: int) -> tuple[int, ...]:
    """Axes without negative ones and doublets, ascending."""
    if any(not -rank <= a < rank for a in axes):
        raise ModelError(f"{im.label(op)}: axes {axes[:MAX_SHOWN]} of an input of rank {rank}")
    return tuple(sorted({a % rank for a in axes}))


def axis_of(im: Importer, op: FileOperator, axes: list[int], rank: int) -> int:
    """The one axis of a list that must have one, not negative."""
    if len(axes) != 1:
        raise ModelError(f"{im.label(op)}: axes {axes[:MAX_SHOWN]}; allowed: one")
    return axes_of(im, op, axes, rank)[0]


def import_plain(name: str, inputs: int = 1) -> OpImporter:
    """An op without attributes."""

    def run(im: Importer, op: FileOperator) -> None:
        im.node(op, name, [im.input(op, i) for i in range(inputs)])

    return run
