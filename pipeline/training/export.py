"""From a trained network to ONNX, the form in which the rest of the pipeline reads it."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from torch import Tensor, nn

from tinsmith.pipeline.errors import ToolMissing, UnsupportedModel


def export_onnx(
    network: nn.Module, sample: Tensor, path: Path, tasks: Sequence[str] = ("",)
) -> None:
    """Write `network` with its weights as one ONNX file, for a sample [1, C, H, W] in NCHW.

    The input is called `input` and the output `logits`; those of several tasks have the tasks'
    names behind that: `logits_digit`. The same network gives the same bytes: the
    traces of source lines that torch adds, which hold paths, are taken out. Raises UnsupportedModel
    where torch can't export it.
    """
    try:
        import onnx_ir
        import onnxscript  # noqa: F401 - torch's exporter needs it, and says so only deep inside
    except ImportError as e:
        raise ToolMissing(
            "the export to ONNX needs the package onnxscript: pip install 'tinsmith[train]'"
        ) from e
    network = network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    several = len(tasks) > 1
    try:
        with _quiet():
            program = torch.onnx.export(
                network,
                (sample.contiguous(),),
                input_names=["input"],
                output_names=[f"logits_{task}" for task in tasks] if several else ["logits"],
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as e:
        reason = str(e.__cause__ or e).strip().splitlines()[0]
        raise UnsupportedModel(f"torch can't export this network to ONNX: {reason}") from e
    assert program is not None
    model = program.model
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.doc_string = model.graph.doc_string = None
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    onnx_ir.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's own chatter about its progress and deprecations from the user."""
    loggers = [logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
