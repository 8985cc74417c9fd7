"""`tinsmith analyze` tells all that stands in the way at once, soon, and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support.command import run
from support.goldens import load, model_path
from support.nets import Net
from tinsmith.pipeline.analysis import analyze
from tinsmith.pipeline.errors import ConfigError, UnsupportedModel
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.frontends.tflite import read_tflite
from tinsmith.pipeline.model_files import parse_shapes
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.targets.target import target_named

SECONDS = 2.0


def run_apart(*arguments: str | Path) -> tuple[float, str]:
    """(seconds of the processor, the modules loaded) of a command in a process of its own."""
    code = (
        "import sys, time\nfrom tinsmith.pipeline.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as e:\n    assert e.code == 0, e.code\n"
        "print('SECONDS', time.process_time(), *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, modules = done.stdout.rsplit("SECONDS", 1)[1].split(maxsplit=1)
    return float(seconds), modules


@pytest.mark.parametrize(
    ("name", "target"),
    [("mlperf_tiny/ad01_fp32", None), ("mlperf_tiny/vww_96_int8", "nucleo-l4r5zi")],
)
def test_the_largest_models_are_analyzed_within_two_seconds_and_without_torch(
    name: str, target: str | None
) -> None:
    path = model_path(name)
    flags = [] if target is None else ["-t", target]
    seconds, modules = run_apart("analyze", path, *flags)
    assert seconds < SECONDS
    loaded = modules.split()
    assert "torch" not in loaded and "onnxruntime" not in loaded


def test_every_unsupported_layer_is_told_at_once_with_what_follows_them() -> None:
    with pytest.raises(UnsupportedModel) as error:
        load("tflm/audio_preprocessor_int8")
    text = str(error.value)
    for layer in ("signal_window", "signal_rfft", "TruncateDiv", "mul", "clip_by_value"):
        assert f"'{layer}'" in text
    assert "tinsmith ops" in text


def test_a_model_that_does_not_fit_is_told_so_and_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Net("big", np.random.default_rng(0))
    x = net.input((1, 400, 400, 8))
    y = net.node("conv2d", [x, net.weights((8, 1, 1, 8), x, axis=0)], Conv2dAttrs(), name="wide")
    model = tmp_path / "big.tflite"
    model.write_bytes(to_tflite(net.graph([y])))
    assert run("analyze", model, "-t", "nrf52840-dk") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "does NOT fit nrf52840-dk" in out
    assert "input 'x': int8 1x400x400x8, scale 0.05" in out and "zero point 3" in out
    report = analyze(read_tflite(model), target_named("nrf52840-dk"))
    assert report.fits is False and report.arena_bytes is not None
    assert report.ram_limit_bytes is not None and report.arena_bytes > report.ram_limit_bytes
    assert ("x", 400 * 400 * 8) in report.peak_tensors


def test_what_has_no_kernel_is_listed_in_whole_and_ends_with_exit_code_three(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Net("delay", np.random.default_rng(0))
    b, x = net.builder, net.input((1, 8))
    held = [b.state_var(n, np.zeros((1, 8), np.int8), b.tensors[x].quant) for n in ("one", "two")]
    b.assign("one", b.node("relu", [x], quant=b.tensors[x].quant))
    b.assign("two", b.node("relu", [held[0]], quant=b.tensors[x].quant))
    model = tmp_path / "delay.tflite"
    model.write_bytes(to_tflite(b.build(held)))
    assert run("analyze", model, "-t", "cortex-m4") == 3
    told = capsys.readouterr()
    assert "relu" in told.out
    for name in ("one", "two"):
        assert f"output '{name}' is the state of the step before; copy it by an op" in told.err


def test_a_float_model_is_analyzed_and_told_to_be_quantized(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = model_path("tflm/hello_world_float")
    assert run("analyze", path, "-t", "cortex-m4") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "quantize it to see what it needs on cortex-m4" in out


def test_open_shapes_are_all_told_and_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    path = model_path("onnx/silero_vad_16k_op15")
    assert run("analyze", path) == 3
    told = capsys.readouterr().err
    assert "input 'input' has the open shape [?, ?]" in told
    assert "input 'state' has the open shape [2, ?, 128]" in told
    assert run("analyze", path, "--shape", "input=1,576", "--shape", "nothing=1") == 3
    assert "shapes are given for nothing; the model's inputs are input" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["x", "=1", "x=a", "x=1,-2", "x=0", "x=1,2147483648"])
def test_a_shape_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="allowed: NAME=1,32,32,3"):
        parse_shapes([text])


def test_shapes_are_parsed_by_the_last_equals_sign() -> None:
    assert parse_shapes(["a=b=1, 2", "s="]) == {"a=b": (1, 2), "s": ()}


def test_shapes_are_for_onnx_only() -> None:
    assert run("analyze", model_path("tflm/hello_world_int8"), "--shape", "x=1") == 2
