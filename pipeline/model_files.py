"""Model files by their kind: what `tinsmith generate MODEL` and the like are given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tinsmith.pipeline.cut import cut
from tinsmith.pipeline.errors import ConfigError, DataError, ModelError
from tinsmith.pipeline.graph import Array, DType, Graph, Tensor, rebuild
from tinsmith.pipeline.numerics import quantize_array
from tinsmith.pipeline.passes import FLOAT_PASSES, INT_PASSES, run_passes

SUFFIXES = (".tflite", ".onnx")


@dataclass(frozen=True, eq=False)
class Model:
    """A model read from a file. sha256: of the file's bytes, in hexadecimal."""

    graph: Graph
    sha256: str


@dataclass(frozen=True)
class ReadOptions:
    """How a file is read.

    start, end: names of tensors of the file between which the part lies that is wanted.
    shapes: of the inputs of an .onnx file that leaves them open, by name.
    activations: bits of the activations of a float model that is quantized: 8 or 16.
    """

    start: Sequence[str] = ()
    end: Sequence[str] = ()
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    activations: int = 8


WHOLE = ReadOptions()


def parse_shapes(texts: Sequence[str]) -> Mapping[str, tuple[int, ...]]:
    """Shapes by input name, of texts such as "input=1,16000"; ConfigError for another form."""
    shapes = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        parts = [d.strip() for d in dims.split(",") if d.strip()]
        if not name or not all(d.isdecimal() and 0 < int(d) < 1 << 31 for d in parts):
            raise ConfigError(f"--shape {text}: allowed: NAME=1,32,32,3 (sizes of at least 1)")
        shapes[name] = tuple(int(d) for d in parts)
    return shapes


def read_model(path: Path, options: ReadOptions = WHOLE) -> Model:
    """The graph of a .tflite or .onnx file, after the passes.

    Raises ModelError for a missing, empty or damaged file, UnsupportedModel for what has no op.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(
            f"'{path}': the kind of model is told by its suffix; allowed: .tflite, .onnx"
        )
    try:
        data = path.read_bytes()
    except FileNotFoundError as e:
        raise ModelError(f"there is no model file '{path}'") from e
    except OSError as e:
        raise ModelError(f"the model file '{path}' can't be read: {e.strerror}") from e
    if not data:
        raise ModelError(f"the model file '{path}' is empty")
    graph = _import(path, options)
    if options.start or options.end:
        graph = cut(graph, options.start, options.end)
    graph = run_passes(graph, INT_PASSES if graph.is_quantized else FLOAT_PASSES)
    return Model(graph, hashlib.sha256(data).hexdigest())


def _import(path: Path, options: ReadOptions) -> Graph:
    """The graph as the file has it; what is wrong with it is told with the file's name."""
    # Each front end is loaded only where it is asked for: onnx takes half a second to import.
    try:
        if path.suffix.lower() == ".tflite":
            if options.shapes:
                raise ConfigError(f"--shape: '{path}' has fixed shapes; allowed: for .onnx files")
            from tinsmith.pipeline.frontends.tflite import read_tflite

            return read_tflite(path)
        from tinsmith.pipeline.frontends.onnx import read_onnx

        return read_onnx(path, shapes=options.shapes)
    except ModelError as e:
        raise type(e)(f"'{path}': {e}") from e


def started_afresh(model: Model) -> Model:
    """The model whose every run starts from the initial state, of which none is kept: its state
    becomes constants. So a .tflite computes what an LSTM of torch or ONNX does with each sequence.
    """
    graph = model.graph
    constants = [replace(graph.tensors[v.tensor], data=v.initial) for v in graph.state]
    return replace(model, graph=rebuild(graph, tensors=constants, state=()))


def read_quantized(
    path: Path, calibration: Path | None = None, options: ReadOptions = WHOLE
) -> Model:
    """As read_model, and quantized: a float model needs calibration data, floats [N, *shape]."""
    model = read_model(path, options)
    if model.graph.is_quantized:
        if calibration is not None:
            raise ConfigError(
                f"'{path}' is quantized already; leave --calibrate out, or give a float model"
            )
        if options.activations != 8:
            raise ConfigError(
                f"'{path}' is quantized already; leave --activations out, or give a float model"
            )
        return model
    if calibration is None:
        raise ConfigError(
            f"'{path}' is a float model; give samples to quantize it with: "
            "--calibrate X.npy (floats [N, *input shape]), or quantize it first"
        )
    from tinsmith.pipeline.quantization import QuantizeOptions, quantize

    chosen = QuantizeOptions(activations=options.activations)
    samples = read_arrays(calibration, model.graph)
    return Model(quantize(model.graph, samples, chosen), model.sha256)


def read_arrays(path: Path, graph: Graph) -> Mapping[str, Array]:
    """Samples [N, *input shape] by input name from a .npy (one input) or .npz (by name).

    Raises DataError for a missing or damaged file, missing inputs, and samples of different counts.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError as e:
        raise DataError(f"there is no file of samples '{path}'") from e
    except (OSError, ValueError, EOFError) as e:
        raise DataError(f"'{path}' is no .npy or .npz file of numbers: {e}") from e
    if isinstance(loaded, np.ndarray):
        if len(graph.inputs) != 1:
            raise DataError(
                f"'{path}' holds one array, but the model has the inputs "
                f"{', '.join(graph.inputs)}; give an .npz with an array for each"
            )
        return {graph.inputs[0]: loaded}
    with loaded as file:
        names = list(file.files)
        if len(graph.inputs) == 1 and len(names) == 1:
            return {graph.inputs[0]: file[names[0]]}
        missing = [n for n in graph.inputs if n not in names]
        if missing:
            raise DataError(
                f"'{path}' has no array for the input {', '.join(missing)}; "
                f"it has {', '.join(names)}"
            )
        arrays = {n: file[n] for n in graph.inputs}
    if len({len(a) for a in arrays.values()}) > 1:
        counts = ", ".join(f"{n} {len(a)}" for n, a in arrays.items())
        raise DataError(f"'{path}': the inputs have different numbers of samples: {counts}")
    return arrays


def to_input(values: Array, tensor: Tensor, where: str) -> Array:
    """Samples [N, *shape] as the tensor's own type: floats are quantized by its scale.

    Leading dimensions of 1 may be left out, and NCHW images are not guessed at.
    """
    count, shape = len(values) if values.ndim else 0, tensor.shape
    flat = tuple(d for d in shape if d != 1)
    if count == 0 or tuple(d for d in values.shape[1:] if d != 1) != flat:
        raise DataError(
            f"{where}: the array is {values.dtype}{list(values.shape)}; the input '{tensor.name}' "
            f"takes {tensor.dtype.value}[N, {', '.join(map(str, shape))}]"
        )
    values = values.reshape(count, *shape)
    if values.dtype == tensor.dtype.numpy:
        return values
    if values.dtype.kind != "f" or tensor.quant is None or tensor.dtype is DType.FLOAT32:
        raise DataError(
            f"{where}: the array is {values.dtype}; the input '{tensor.name}' takes "
            f"{tensor.dtype.value}{'' if tensor.quant is None else ' or floats'}"
        )
    if not np.all(np.isfinite(values)):
        raise DataError(f"{where}: the array has values that are not finite")
    return np.asarray(quantize_array(values, tensor.quant, tensor.dtype))
