"""Models on the Cortex-M boards of QEMU: what the processors give, and what they refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from support.nets import Net
from support.toy_models import assembly_sources, build, toy_interface, toy_reference, toy_sources
from tinsmith.pipeline.deployment import make_program
from tinsmith.pipeline.errors import ConfigError, DeviceSilent, ToolMissing
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.validation import random_samples, validate
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.emulators.qemu import qemu_available
from tinsmith.targets.harness import QEMU_MACHINES, ModelInterface
from tinsmith.targets.image import Image
from tinsmith.targets.target import target_named

CORES = tuple(QEMU_MACHINES)
ASSEMBLY = ModelInterface("toy", (16,), (16,))
needs_qemu = pytest.mark.skipif(not qemu_available(), reason="needs qemu-system-arm")


def samples(count: int) -> list[tuple[bytes]]:
    rng = np.random.default_rng(7)
    return [(rng.integers(-128, 128, 64, dtype=np.int8).tobytes(),) for _ in range(count)]


def toy(core: str, folder: Path, **parts: str) -> Image:
    return build(core, folder, toy_sources(**parts), toy_interface(), emulator="qemu")


def assembly(core: str, folder: Path, run: str) -> Image:
    return build(core, folder, assembly_sources(run), ASSEMBLY, emulator="qemu")


@needs_qemu
@pytest.mark.parametrize("core", CORES)
def test_every_machine_computes_what_the_reference_does(core: str, tmp_path: Path) -> None:
    rows = samples(5)
    image = toy(core, tmp_path)
    assert image.emulator == "qemu"
    expected = [toy_reference(np.frombuffer(x, np.int8), 10) for (x,) in rows]
    with open_runner(image) as runner:
        results = list(runner.run(rows))
        assert [r.outputs[0] for r in results] == expected
        assert {(r.instructions, r.stack_bytes) for r in results} == {(None, None)}
        again = list(runner.run([rows[0]] * 3, reset_each=False))
    x = np.frombuffer(rows[0][0], np.int8)
    assert [r.outputs[0] for r in again] == [toy_reference(x, 10, s) for s in range(3)]


@needs_qemu
def test_the_harness_costs_the_model_nothing(tmp_path: Path) -> None:
    sizes = toy("cortex-m4", tmp_path / "q").sizes
    plain = build("cortex-m4", tmp_path / "u", toy_sources(), toy_interface())
    assert plain.emulator == "unicorn"
    assert sizes == plain.sizes


@needs_qemu
def test_the_model_may_trace_what_it_computes(tmp_path: Path) -> None:
    head = "void tinsmith_trace(int step, const void *data, unsigned bytes);"
    image = toy("cortex-m3", tmp_path, head=head, body="tinsmith_trace(-3, x, 4u);")
    ((row,),) = samples(1)
    with open_runner(image) as runner:
        (result,) = runner.run([(row,)])
    assert result.trace == ((-3, row[:4]),)


@needs_qemu
@pytest.mark.parametrize(
    ("core", "access", "message"),
    [
        ("cortex-m3", "ldrd r2, r3, [r1]", "access that is not aligned in toy_run"),
        ("cortex-m4", "ldm r1, {r2, r3}", "access that is not aligned in toy_run"),
        ("cortex-m33", "stm r1!, {r2, r3}", "access that is not aligned in toy_run"),
        ("cortex-m7", "vldr s0, [r1]", "access that is not aligned in toy_run"),
        ("cortex-m3", ".inst.w 0xfa30f081", "instruction that the core does not have in toy_run"),
        ("cortex-m3", ".inst.w 0xee300a20", "not (have|enabled) in toy_run"),
        ("cortex-m4", "mov r1, #0x60000000\nldr r2, [r1]", "no memory is at 0x60000000 in toy_run"),
        ("cortex-m7", "mov r1, #0x60000000\nbx r1", "jump"),
    ],
)
def test_what_the_processor_refuses_is_named_with_its_place(
    core: str, access: str, message: str, tmp_path: Path
) -> None:
    run = f"adds r0, #1\nmov r1, r0\n{access}\nmovs r0, #0\nbx lr"
    with (
        open_runner(assembly(core, tmp_path, run)) as runner,
        pytest.raises(DeviceSilent, match=rf"on {core} \(QEMU mps2-\w+\), sample 0: .*{message}"),
    ):
        list(runner.run([(bytes(16),)]))


@needs_qemu
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('if (x[0] == 1) { for (;;) { __asm__ volatile(""); } }', r"within 1 seconds"),
        ("if (x[0] == 1) { return -7; }", "run returned -7"),
        ("if (x[0] == 1) { ctx->arena[x[1] - 3] = 1; }", "3 bytes before the context"),
    ],
)
def test_a_model_that_goes_wrong_ends_in_an_error_and_the_runner_lives(
    body: str, message: str, tmp_path: Path
) -> None:
    image = toy("cortex-m3", tmp_path, body=body)
    good, bad = bytes(64), bytes([1]) + bytes(63)
    with open_runner(image, timeout_seconds=1) as runner:
        with pytest.raises(DeviceSilent, match=f"sample 1: .*{message}"):
            list(runner.run([(good,), (bad,)]))
        (result,) = runner.run([(good,)])
    assert result.outputs == (toy_reference(np.zeros(64, np.int8), 10),)


@needs_qemu
def test_a_validation_may_ask_for_qemu() -> None:
    net = Net("net", np.random.default_rng(1))
    x = net.input((1, 6, 6, 3))
    w = net.weights((8, 3, 3, 3), x, axis=0)
    graph = net.graph([net.node("conv2d", [x, w, net.bias(w, x, 8)], Conv2dAttrs())])
    target = target_named("nucleo-l4r5zi")
    program = make_program(graph, "net", target)
    report, _ = validate(program, target, random_samples(graph, 4), emulator="qemu", oracles=False)
    assert (report.emulator, report.bit_exact, report.instructions) == ("qemu", True, None)
    assert report.code_bytes is not None


def test_an_image_for_one_machine_does_not_open_on_another(tmp_path: Path) -> None:
    image = toy("cortex-m3", tmp_path)
    with pytest.raises(ConfigError, match="QEMU's cortex-m3 does not run on cortex-m4"):
        open_runner(image, target_named("cortex-m4"))


@pytest.mark.parametrize(
    ("target", "emulator", "allowed"),
    [
        ("cortex-m0plus", "qemu", "unicorn"),
        ("raspberry-pi-4", "qemu", "unicorn"),
        ("host", "unicorn", "host"),
        ("cortex-m4", "renode", "unicorn, qemu"),
    ],
)
def test_an_emulator_without_the_core_is_refused(
    target: str, emulator: str, allowed: str, tmp_path: Path
) -> None:
    message = f"emulator '{emulator}' does not run {target}; allowed: {allowed}$"
    with pytest.raises(ConfigError, match=message):
        build(target, tmp_path, toy_sources(), toy_interface(), emulator=emulator)


def test_qemu_that_is_not_installed_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = toy("cortex-m3", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissing, match="apt install qemu-system-arm"):
        open_runner(image)
