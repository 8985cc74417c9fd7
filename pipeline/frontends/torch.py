"""Torch modules in, as float graphs, by way of torch's own ONNX exporter.

torch is imported where it is needed and nowhere else: reading other formats works without it.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinsmith.pipeline.errors import ModelError, ToolMissing, UnsupportedModel
from tinsmith.pipeline.frontends.onnx import read_onnx
from tinsmith.pipeline.graph import Graph

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto


def read_torch(module: torch.nn.Module | str | Path, example_inputs: Sequence[Any] = ()) -> Graph:
    """The float graph of a torch module, as it computes in evaluation mode.

    module: a module, or the path of a `.pt2` file that torch.export.save wrote.
    example_inputs: tensors of the shapes that the graph shall have, in the module's own layout
        (NCHW); a `.pt2` file brings its own. Layouts of the graph are those of read_onnx.
    Raises UnsupportedModel where torch can't export the module or read_onnx can't import it.
    """
    return read_onnx(to_onnx_model(module, example_inputs))


def to_onnx_model(
    module: torch.nn.Module | str | Path, example_inputs: Sequence[Any] = ()
) -> ModelProto:
    """The ONNX model that torch exports, kept in memory. Arguments and errors as of read_torch."""
    torch = _torch()
    if isinstance(module, (str, Path)):
        program, inputs = _load_program(torch, Path(module)), ()
    else:
        program, inputs = module, tuple(example_inputs)
        if not inputs:
            raise ModelError(
                "read_torch needs example inputs: tensors of the shapes to compile for"
            )
    try:
        with _evaluation_mode(program), _quiet():
            exported = torch.onnx.export(program, inputs, dynamo=True, verbose=False)
    except Exception as e:  # whatever the traced module raises; the cause is chained
        raise UnsupportedModel(
            f"torch can't export the module to ONNX: {_first_line(e)}; "
            "make its forward traceable by torch.export, without Python control flow on values"
        ) from e
    proto: ModelProto = exported.model_proto
    return proto


def _torch() -> Any:
    try:
        import torch
        import torch.onnx
    except ImportError as e:
        raise ToolMissing("reading torch modules needs torch: pip install 'tinsmith[train]'") from e
    return torch


def _load_program(torch: Any, path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"'{path}' can't be read: no such file")
    try:
        with _quiet():
            return torch.export.load(path)
    except Exception as e:  # torch raises what its unpickling raises
        raise ModelError(
            f"'{path}' is no exported torch program, or is damaged: {_first_line(e)}; "
            "write it with torch.export.save(torch.export.export(module, inputs), path)"
        ) from e


def _first_line(e: Exception) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0]


@contextlib.contextmanager
def _evaluation_mode(program: Any) -> Iterator[None]:
    """The module with all its parts in evaluation mode, and as they were afterwards."""
    modes: Mapping[Any, bool] = (
        {m: m.training for m in program.modules()} if hasattr(program, "training") else {}
    )
    for m in modes:
        m.training = False
    try:
        yield
    finally:
        for m, training in modes.items():
            m.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on packages that it would also know how to use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
