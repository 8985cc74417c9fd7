"""Models that others trained, and what tflite-micro gave for them: shared data, no part of this."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tinsmith.pipeline import interpreter
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.graph import Array, Graph
from tinsmith.targets.emulators.runner import Runner

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
KINDS = ("goldens", "goldens_real")
INT8 = (
    "mlperf_tiny/ad01_int8",
    "mlperf_tiny/ic_resnet8_int8",
    "mlperf_tiny/kws_ref_model_int8",
    "mlperf_tiny/vww_96_int8",
    "tflm/hello_world_int8",
    "tflm/micro_speech_int8",
    "tflm/mnist_lstm_int8",
    "tflm/person_detect_int8",
    "microwakeword_v2/okay_nabu",
    "microwakeword_v2/vad",
)
FLOAT = (
    "mlperf_tiny/ad01_fp32",
    "mlperf_tiny/ic_resnet8_float",
    "mlperf_tiny/vww_96_float",
    "tflm/hello_world_float",
    "tflm/mnist_lstm_float",
    "mediapipe/face_detection_short_range",
)

# The models that goldens of real input were made for; goldens of random input there are for all.
REAL = (
    "mlperf_tiny/ad01_fp32",
    "mlperf_tiny/ad01_int8",
    "mlperf_tiny/ic_resnet8_float",
    "mlperf_tiny/ic_resnet8_int8",
    "tflm/micro_speech_int8",
    "tflm/mnist_lstm_float",
    "tflm/mnist_lstm_int8",
    "tflm/person_detect_int8",
)


@dataclass(frozen=True, eq=False)
class Golden:
    """x: [N, *input shape]. y: the first output by tflite-micro. stateful: x is one sequence."""

    kind: str
    x: Array
    y: Array
    stateful: bool


def model_path(name: str) -> Path:
    """The file of a model; skips the test where it is not here."""
    found = [DATA / "models" / f"{name}{suffix}" for suffix in (".tflite", ".onnx")]
    path = next((p for p in found if p.exists()), None)
    if path is None:
        pytest.skip(f"{name} is not here: it is shared data, no part of the project")
    return path


def load(name: str) -> Graph:
    return read_tflite(model_path(name))


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds of goldens that were made for a model."""
    return KINDS if name in REAL else KINDS[:1]


def pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """(kind, name) of all goldens that were made for these models."""
    return [(kind, name) for name in names for kind in kinds_of(name)]


def stored(kind: str, name: str) -> dict[str, Array]:
    """A model's goldens as they are kept; skips the test where they are not here."""
    path = DATA / kind / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"{kind} of {name} are not here: they are shared data, no part of the project")
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def goldens(graph: Graph, name: str) -> list[Golden]:
    """All samples of a model, those of random input and those of real input where there are any."""
    found = []
    for kind in kinds_of(name):
        data = stored(kind, name)
        x = data["x"].reshape(len(data["x"]), *graph.tensors[graph.inputs[0]].shape)
        found.append(Golden(kind, x, data["y_tflm"], bool(data["stateful"])))
    return found


def interpreted(graph: Graph, golden: Golden) -> Array:
    """The first output for every sample, by the interpreter."""
    feed = graph.inputs[0]
    if not golden.stateful:
        return interpreter.run_samples(graph, {feed: golden.x}, batch=8)[0]
    state = None
    rows = []
    for x in golden.x:
        tensors, state = interpreter.run(graph, {feed: x}, state)
        rows.append(interpreter.outputs(graph, tensors)[0])
    return np.stack(rows)


def on_device(graph: Graph, golden: Golden, runner: Runner) -> Array:
    """The first output for every sample, by compiled C; the first sample's accesses are watched."""
    out = graph.tensors[graph.outputs[0]]
    results = runner.run(
        ((x.tobytes(),) for x in golden.x),
        reset_each=not golden.stateful,
        count="none",
        check_alignment=golden.kind == KINDS[0],
    )
    rows = [np.frombuffer(r.outputs[0], out.dtype.numpy).reshape(out.shape) for r in results]
    return np.stack(rows)
