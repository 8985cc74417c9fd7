"""The command line on bad input: the message says what to do, the exit code is as documented."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from support.command import run
from support.nets import Net
from tinsmith.pipeline import deployment
from tinsmith.pipeline.exporters.tflite import to_tflite
from tinsmith.pipeline.ops.fully_connected import FullyConnectedAttrs
from tinsmith.targets import toolchains


def fail(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """The exit code and what stands on the error output, on one line."""
    code = run(*arguments)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return code, " ".join(error.split())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An int8 network of one layer: 6 inputs, 4 outputs."""
    net = Net("small", np.random.default_rng(0))
    x = net.input((1, 6))
    w = net.weights((4, 6), x)
    y = net.node("fully_connected", [x, w, net.bias(w, x, 4)], FullyConnectedAttrs(), name="dense")
    path = tmp_path / "small.tflite"
    path.write_bytes(to_tflite(net.graph([y])))
    return path


@pytest.fixture
def float_model(tmp_path: Path) -> Path:
    """A float ONNX network: input [1, 6]."""
    w = helper.make_tensor("w", TensorProto.FLOAT, [4, 6], np.linspace(-1, 1, 24).tolist())
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], name="dense", transB=1)],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [w],
    )
    path = tmp_path / "float.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_a_missing_model_file_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, error = fail(capsys, "validate", "nowhere.tflite", "-t", "cortex-m4")
    assert code == 3
    assert "there is no model file 'nowhere.tflite'" in error


def test_an_empty_model_file_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.tflite").touch()
    code, error = fail(capsys, "analyze", tmp_path / "empty.tflite")
    assert code == 3
    assert "is empty" in error


def test_a_damaged_model_file_ends_with_3(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_bytes(model.read_bytes()[:100])
    assert fail(capsys, "analyze", model)[0] == 3


def test_another_kind_of_file_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.h5").write_bytes(b"x")
    code, error = fail(capsys, "analyze", tmp_path / "model.h5")
    assert code == 3
    assert "allowed: .tflite, .onnx" in error


def test_a_wrong_key_of_a_configuration_ends_with_2_and_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tinsmith.toml").write_text(
        '[teacher]\nmodel = "m.py:T"\n[distil]\nmodel = "m.py:S"\ntemprature = 4.0\n'
    )
    code, error = fail(capsys, "run", tmp_path)
    assert code == 2
    assert "temprature" in error
    assert "did you mean 'temperature'?" in error


def test_a_missing_configuration_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = fail(capsys, "run", tmp_path / "tinsmith.toml")
    assert code == 2
    assert "there is no configuration file" in error


def test_an_unknown_target_ends_with_2_and_offers_the_nearest(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = fail(capsys, "validate", model, "-t", "cortex-m44")
    assert code == 2
    assert "cortex-m4" in error
    assert "tinsmith targets" in error


def test_an_emulator_that_does_not_run_the_target_names_those_that_do(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = fail(capsys, "validate", model, "-t", "cortex-m0plus", "--emulator", "qemu")
    assert code == 2
    assert "emulator 'qemu' does not run cortex-m0plus; allowed: unicorn" in error


def test_an_unknown_target_in_a_configuration_is_refused_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tinsmith.toml").write_text(
        '[run]\nout = "out"\n[teacher]\nmodel = "m.py:T"\n[distil]\nmodel = "m.py:S"\n'
        '[generate]\ntargets = ["cortex-m44"]\n'
    )
    code, error = fail(capsys, "run", tmp_path)
    assert code == 2
    assert "cortex-m44" in error
    assert not (tmp_path / "out").exists()


def test_an_unknown_objective_ends_with_2(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = fail(capsys, "validate", model, "-t", "cortex-m4", "-O", "speed")
    assert code == 2
    assert "allowed: balanced, time, size, ram" in error


def test_an_unknown_way_to_give_the_arena_ends_with_2(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ("-t", "host", "-o", tmp_path / "c", "--arena", "heap")
    code, error = fail(capsys, "generate", model, *arguments)
    assert code == 2
    assert "--arena heap: does not exist; allowed: static, caller" in error


def test_generate_keeps_the_inputs_and_takes_the_arena_where_asked_to(
    model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c"
    flags = ("--preserve-inputs", "--arena", "caller")
    assert run("generate", model, "-t", "host", "-o", out, "-n", "net", *flags) == 0
    header = (out / "net.h").read_text()
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    for name in ("net.h", "net.c", "net_weights.h", "README.md"):
        assert digest in (out / name).read_text()
    assert "are kept during a run" in header
    assert "int net_init(net_t *ctx, void *arena);" in header
    assert "NET_ARENA_ALIGNMENT" in (out / "README.md").read_text()


def test_a_memory_that_the_target_lacks_ends_with_2(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = fail(capsys, "validate", model, "-t", "nucleo-h743zi", "--memory", "ccm=1000")
    assert code == 2
    assert "nucleo-h743zi has no memory 'ccm'; allowed: flash, dtcm, axi_sram" in error
    assert fail(capsys, "analyze", model, "--memory", "dtcm=1000")[0] == 2


def test_analyze_of_a_board_with_memories_names_them(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("analyze", model, "-t", "nucleo-h743zi") == 0
    assert "dtcm" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('targets = ["cortex-m4"]\nmemories.dtcm = 5', "no target has a memory 'dtcm'"),
        ('targets = ["{folder}/mine.toml"]', "mine.toml' is a file"),
    ],
)
def test_what_a_configuration_says_of_memories_is_checked_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, message: str
) -> None:
    (tmp_path / "mine.toml").write_text("title = 'mine'\ncore = 'cortex-m4'\n")
    (tmp_path / "tinsmith.toml").write_text(
        '[run]\nout = "out"\n[teacher]\nmodel = "m.py:T"\n[distil]\nmodel = "m.py:S"\n'
        f"[generate]\n{table.format(folder=tmp_path)}\n"
    )
    code, error = fail(capsys, "run", tmp_path)
    assert code == 2
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_float_model_without_calibration_ends_with_2(
    float_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = fail(capsys, "validate", float_model, "-t", "cortex-m4")
    assert code == 2
    assert "--calibrate" in error


def test_calibration_data_of_the_wrong_shape_ends_with_2_and_says_both_shapes(
    float_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((10, 7), np.float32))
    code, error = fail(
        capsys, "validate", float_model, "-t", "cortex-m4", "--calibrate", tmp_path / "x.npy"
    )
    assert code == 2
    assert "7" in error
    assert "6" in error


def test_a_float_model_is_quantized_to_int16_activations_and_proven_on_the_target(
    float_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    options = ("--calibrate", tmp_path / "x.npy", "--activations", "16")
    target = ("-t", "cortex-m4")
    assert run("validate", float_model, *target, *options) == 0
    out = ("-n", "wide", "-o", tmp_path / "out")
    assert run("generate", float_model, *target, *options, *out) == 0
    assert "int16_t *wide_input(" in (tmp_path / "out" / "wide.h").read_text()
    assert run("analyze", float_model, *options) == 0
    capsys.readouterr()


def test_activations_are_for_float_models_with_calibration_data(
    model: Path, float_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = fail(capsys, "validate", model, "-t", "cortex-m4", "--activations", "16")
    assert (code, "quantized already; leave --activations out" in error) == (2, True)
    code, error = fail(capsys, "analyze", float_model, "--activations", "16")
    assert (code, "--calibrate" in error) == (2, True)
    np.save(tmp_path / "x.npy", np.zeros((10, 6), np.float32))
    options = ("--calibrate", tmp_path / "x.npy", "--activations", "12")
    code, error = fail(capsys, "validate", float_model, "-t", "cortex-m4", *options)
    assert (code, "activations of 12 bits; allowed: 8, 16" in error) == (2, True)


def test_inputs_of_the_wrong_shape_end_with_2(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((10, 5), np.int8))
    code, error = fail(capsys, "validate", model, "-t", "cortex-m4", "--inputs", tmp_path / "x.npy")
    assert code == 2
    assert "[N, 1, 6]" in error


def test_inputs_that_are_no_array_file_end_with_2(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.npy").write_text("not an array")
    code, error = fail(capsys, "validate", model, "-t", "cortex-m4", "--inputs", tmp_path / "x.npy")
    assert code == 2
    assert "no .npy or .npz" in error


def test_unsupported_ops_end_with_3_and_are_all_listed_with_their_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Erf", ["x"], ["a"], name="first"),
            helper.make_node("Acosh", ["a"], ["y"], name="second"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])],
    )
    path = tmp_path / "odd.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    code, error = fail(capsys, "analyze", path)
    assert code == 3
    for text in ("Acosh", "second", "Erf", "first"):
        assert text in error


def test_a_model_too_large_for_a_board_ends_with_3_and_says_by_how_much_and_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = Net("large", np.random.default_rng(0))
    x = net.input((1, 3000))
    w = net.weights((400, 3000), x)
    y = net.node(
        "fully_connected", [x, w, net.bias(w, x, 400)], FullyConnectedAttrs(), name="dense"
    )
    path = tmp_path / "large.tflite"
    path.write_bytes(to_tflite(net.graph([y])))
    code, error = fail(capsys, "generate", path, "-t", "stm32f4-discovery", "-o", tmp_path / "out")
    assert code == 3
    assert "too many" in error
    assert "dense" in error
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_holds_something_else_ends_with_2_and_is_left_alone(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    code, error = fail(capsys, "generate", model, "-t", "cortex-m4", "-o", out)
    assert code == 2
    assert "thesis.txt" in error
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]


def test_an_output_folder_inside_of_a_file_ends_with_2_before_the_model_is_read(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = model / "deep" / "out"
    code, text = fail(capsys, "generate", "no.tflite", "-t", "cortex-m4", "-o", out)
    assert code == 2
    assert f"'{out}' can't be a folder: '{model}' is a file" in text


def test_an_output_folder_where_nothing_may_be_written_ends_with_2_before_the_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write to every folder, so the answer of the system is replaced, not a mode set.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    out = tmp_path / "deep" / "out"
    code, text = fail(capsys, "generate", "no.tflite", "-t", "cortex-m4", "-o", out)
    assert code == 2
    assert f"'{tmp_path}' may not be written to" in text
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing_behind_and_says_so(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tinsmith.pipeline.generation.generate", interrupted)
    out = model.parent / "out"
    code, text = fail(capsys, "generate", model, "-t", "cortex-m4", "-o", out)
    assert code == 130
    assert "interrupted; no file is half-written" in text
    assert list(model.parent.iterdir()) == [model]


def test_a_full_disk_ends_with_4_and_leaves_the_folder_as_it_was(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run("generate", model, "-t", "cortex-m4", "-o", tmp_path / "out") == 0
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    capsys.readouterr()
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "CMakeLists.txt":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    code, error = fail(capsys, "generate", model, "-t", "cortex-m4", "-o", tmp_path / "out")
    monkeypatch.undo()
    assert code == 4
    assert "the disk is full" in error
    after = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert before == after
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]


def test_a_rename_that_fails_brings_the_folder_back(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert run("generate", model, "-t", "cortex-m4", "-o", out) == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    capsys.readouterr()
    rename = os.rename
    failures = [OSError(errno.EIO, os.strerror(errno.EIO))]

    def failing(source: Path, goal: Path) -> None:
        if goal == out and failures:
            raise failures.pop()
        rename(source, goal)

    monkeypatch.setattr(os, "rename", failing)
    code, error = fail(capsys, "generate", model, "-t", "cortex-m4", "-o", out)
    monkeypatch.undo()
    assert code == 4
    assert os.strerror(errno.EIO) in error
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_what_is_wrong_with_a_model_is_told_with_its_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / f"damaged{model.suffix}"
    damaged.write_bytes(model.read_bytes()[:200])
    code, error = fail(capsys, "analyze", damaged)
    assert code == 3
    assert f"'{damaged}'" in error


def test_a_prefix_that_is_no_c_name_is_refused_with_one_that_is(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = fail(
        capsys, "generate", model, "-t", "host", "-o", tmp_path / "out", "-n", "my net"
    )
    assert code == 2
    assert "'my net' can't be the prefix of C names; one that can is 'my_net'" in error


def test_a_missing_compiler_ends_with_4_and_the_command_that_installs_it(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchains.importlib.util, "find_spec", lambda name: None)
    code, error = fail(capsys, "validate", model, "-t", "cortex-m4")
    assert code == 4
    assert "pip install" in error
    assert "ziglang" in error


def test_a_wrong_flag_ends_with_2(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("validate", model, "--tarmac", "cortex-m4") == 2
    capsys.readouterr()


def test_validate_writes_every_field_and_the_outputs(model: Path, tmp_path: Path) -> None:
    np.save(
        tmp_path / "x.npy", np.random.default_rng(0).integers(-128, 128, (5, 6)).astype(np.int8)
    )
    code = run(
        "validate", model, "-t", "cortex-m0plus", "--inputs", tmp_path / "x.npy", "--json",
        tmp_path / "r.json", "--save-outputs", tmp_path / "y.npy", "--per-layer",
    )  # fmt: skip
    assert code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["bit_exact"] is True
    assert report["samples"] == 5
    assert report["mismatches"] == 0
    for field in (
        "target", "oracles", "instructions", "arena_bytes", "stack_bytes", "code_bytes",
        "weight_bytes", "flash_bytes", "toolchain", "emulator", "kernels",
    ):  # fmt: skip
        assert field in report
    assert report["flash_bytes"] == report["code_bytes"] + report["weight_bytes"]
    assert report["layers"][0]["mismatches"] == 0
    assert np.load(tmp_path / "y.npy").shape == (5, 1, 4)


def test_random_input_is_said_to_be_no_accuracy_figure(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", model, "-t", "host", "--json", tmp_path / "r.json") == 0
    assert "random input: not an accuracy figure" in capsys.readouterr().out
    assert json.loads((tmp_path / "r.json").read_text())["input"].startswith("random input")


def test_generate_writes_a_folder_that_can_be_written_again(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("generate", model, "-t", "cortex-m4", "-o", out, "-n", "net") == 0
    first = {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert {"net.c", "net.h", "net_weights.h", "CMakeLists.txt", "README.md"} <= set(first)
    assert run("generate", model, "-t", "cortex-m4", "-o", out, "-n", "net") == 0
    assert first == {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_lists_and_checks_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("targets") == 0
    assert run("ops") == 0
    assert run("doctor") == 0
    printed = capsys.readouterr().out
    for text in ("cortex-m0plus", "depthwise_conv2d", "ziglang"):
        assert text in printed


def test_tuning_for_a_target_without_an_emulator_ends_with_2_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    absent = tmp_path / "absent.tflite"
    code, error = fail(capsys, "generate", absent, "-t", "host", "-o", tmp_path / "out", "--tune")
    assert code == 2
    assert "--tune: host has no emulator that counts instructions" in error
    assert "cortex-m4" in error


def test_a_kind_of_file_that_is_not_written_is_told_before_anything_runs(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        deployment, "compile_image", lambda *a, **k: pytest.fail("something was compiled")
    )
    text, picture = tmp_path / "y.txt", tmp_path / "map.png"
    code, error = fail(capsys, "validate", model, "-t", "host", "--save-outputs", text)
    assert code == 2
    assert "y.txt: allowed: an .npz file, or an .npy file for one output" in error
    code, error = fail(capsys, "analyze", model, "-t", "cortex-m4", "--map", picture)
    assert code == 2
    assert "map.png: allowed: an .svg file" in error
    assert not text.exists() and not picture.exists()


def test_what_was_measured_is_printed_also_where_its_file_cant_be_written(
    model: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "blocker").write_text("")
    assert run("validate", model, "-t", "host", "--json", tmp_path / "blocker" / "r.json") != 0
    printed = capsys.readouterr()
    assert "bit-exact" in printed.out
    assert "can't write" in printed.err
