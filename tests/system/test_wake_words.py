"""Wake-word models that people run: all of them, on speech, fed step by step as on the device."""

from __future__ import annotations

import functools
import importlib.util
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.goldens import DATA
from tinsmith.codegen.lower import LowerOptions, lower
from tinsmith.pipeline import oracles
from tinsmith.pipeline.deployment import temporary_build
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.graph import Array, Graph, rebuild
from tinsmith.pipeline.model_files import read_model
from tinsmith.pipeline.numerics import quantize_array
from tinsmith.pipeline.validation import interpret
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.target import target_named

WORDS = ("alexa", "hey_jarvis", "hey_mycroft", "okay_nabu")
RECORDINGS = ("yes", "no", "noise", "silence")
RATE = 16000
BYTES_PER_FRAME = 320  # 10 ms of int16 samples: what the front end takes at a time


def package_model(word: str) -> Path:
    """The file of a model that pymicro-wakeword ships."""
    spec = importlib.util.find_spec("pymicro_wakeword")
    if spec is None or spec.origin is None:
        pytest.skip("pymicro-wakeword is not installed")
    return Path(spec.origin).parent / "models" / f"{word}.tflite"


@functools.cache
def features() -> NDArray[np.float32]:
    """What the front end makes of the recordings, one after another: [frames, 40]."""
    front_end = pytest.importorskip("pymicro_features", reason="pymicro-features is not installed")
    sound = b""
    for name in RECORDINGS:
        path = DATA / "samples" / "tflm" / f"{name}_1000ms.wav"
        if not path.exists():
            pytest.skip(f"{path.name} is not here: it is shared data, no part of the project")
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
            sound += file.readframes(file.getnframes())
    frontend, rows = front_end.MicroFrontend(), []
    for start in range(0, len(sound) - BYTES_PER_FRAME + 1, BYTES_PER_FRAME):
        made = frontend.process_samples(sound[start : start + BYTES_PER_FRAME])
        if made.features:
            rows.append(made.features)
    return np.asarray(rows, np.float32)


def steps(graph: Graph) -> dict[str, Array]:
    """The features in the model's own steps and scale: [N, 1, frames a step, 40]."""
    tensor = graph.tensors[graph.inputs[0]]
    stride = tensor.shape[1]
    found = features()
    found = found[: len(found) // stride * stride].reshape(-1, *tensor.shape)
    assert tensor.quant is not None
    return {tensor.name: quantize_array(found, tensor.quant, tensor.dtype)}


def with_logits(graph: Graph) -> Graph:
    """Also what the last sigmoid reads: it varies where the probability of the word stays 0."""
    (last,) = (n for n in graph.nodes if n.op == "logistic")
    return rebuild(graph, outputs=(*graph.outputs, last.inputs[0]))


def test_the_package_ships_the_models_that_are_tested() -> None:
    assert sorted(p.stem for p in package_model("x").parent.glob("*.tflite")) == sorted(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_a_wake_word_model_gives_the_bytes_of_tflite_micro_at_every_step(word: str) -> None:
    path = package_model(word)
    graph = with_logits(read_model(path).graph)
    assert graph.state
    samples = steps(graph)
    x = next(iter(samples.values()))
    want, logits = interpret(graph, samples)
    assert len(np.unique(logits)) > 8, "the model tells nothing apart"
    if oracles.TFLM.name not in oracles.installed_oracles():
        pytest.skip("tflite-micro is not installed")
    (theirs,) = oracles.TFLM.run(path.read_bytes(), {0: x}, stateful=True, isolated=True)
    np.testing.assert_array_equal(theirs.reshape(want.shape), want)
    written = oracles.TFLM.run(to_tflite(graph), {0: x}, stateful=True, isolated=True)
    np.testing.assert_array_equal(written[1].reshape(logits.shape), logits)


@pytest.mark.parametrize("target_name", ["host", "cortex-m4"])
@pytest.mark.parametrize("word", WORDS)
def test_the_c_of_a_wake_word_model_gives_the_same_bytes_at_every_step(
    word: str, target_name: str
) -> None:
    graph, target = with_logits(read_model(package_model(word)).graph), target_named(target_name)
    (name, x), *_ = steps(graph).items()
    want, logits = interpret(graph, {name: x})
    program = lower(graph, "word", target.isa, LowerOptions())
    with temporary_build(program, target) as made, open_runner(made.image, target) as runner:
        feeds = ((row.tobytes(),) for row in x)
        results = list(runner.run(feeds, reset_each=False, count="none"))
    assert b"".join(r.outputs[0] for r in results) == want.tobytes()
    assert b"".join(r.outputs[1] for r in results) == logits.tobytes()
