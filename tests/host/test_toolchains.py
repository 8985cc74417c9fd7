"""Compilers, and models that run on this computer."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from support.toy_models import build, toy_interface, toy_reference, toy_sources
from tinsmith.pipeline.errors import ConfigError, DataError, DeviceSilent, ToolFailed, ToolMissing
from tinsmith.targets import toolchains
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.emulators.child import ChildRunner
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import (
    Toolchain,
    cache_dir,
    compile_image,
    find_toolchain,
    sanitizer_compiler,
    sanitizers_available,
)

HOST = target_named("host")
M4 = target_named("cortex-m4")


def fake_compiler(folder: Path, text: str, code: int = 1) -> Toolchain:
    path = folder / "fake-cc"
    path.write_text(f"#!/bin/sh\necho '{text}' >&2\nexit {code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return Toolchain("fake", (str(path),))


def samples(n: int, count: int) -> list[tuple[bytes]]:
    rng = np.random.default_rng(7)
    return [(rng.integers(-128, 128, n, dtype=np.int8).tobytes(),) for _ in range(count)]


@pytest.mark.parametrize(("n", "m"), [(1, 1), (64, 10), (333, 7)])
def test_the_host_computes_what_the_reference_does(tmp_path: Path, n: int, m: int) -> None:
    image = build("host", tmp_path, toy_sources(n, m), toy_interface(n, m))
    rows = samples(n, 20)
    with open_runner(image) as runner:
        results = list(runner.run(rows))
    expected = [toy_reference(np.frombuffer(x, np.int8), m) for (x,) in rows]
    assert [r.outputs for r in results] == [(y,) for y in expected]
    assert {(r.instructions, r.stack_bytes) for r in results} == {(None, None)}


def test_state_lives_on_without_reset_and_starts_again_with_the_next_run(tmp_path: Path) -> None:
    image = build("host", tmp_path, toy_sources(), toy_interface())
    x = np.zeros(64, np.int8)
    with open_runner(image) as runner:
        for _ in range(2):
            results = list(runner.run([(x.tobytes(),)] * 3, reset_each=False))
            assert [r.outputs[0] for r in results] == [toy_reference(x, 10, s) for s in range(3)]


def test_the_model_may_trace_what_it_computes(tmp_path: Path) -> None:
    head = "void tinsmith_trace(int step, const void *data, unsigned bytes);"
    body = "tinsmith_trace(-3, x, 4u); tinsmith_trace(5, x + 4, 2u);"
    image = build("host", tmp_path, toy_sources(body=body, head=head), toy_interface())
    ((row,),) = samples(64, 1)
    with open_runner(image) as runner:
        (result,) = runner.run([(row,)])
    assert result.trace == ((-3, row[:4]), (5, row[4:6]))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if (x[0] == 1) { ctx->arena[x[1] + 96] = 1; }", "crashed with SIGSEGV"),
        ("if (x[0] == 1) { ctx->arena[x[1] - 3] = 1; }", "3 bytes before the context"),
        ("if (x[0] == 1) { __builtin_trap(); }", "crashed with SIG"),
        ('if (x[0] == 1) { for (;;) { __asm__ volatile(""); } }', r"within 0\.3 seconds"),
        ("if (x[0] == 1) { return -7; }", "run returned -7"),
    ],
)
def test_a_model_that_goes_wrong_ends_in_an_error_and_the_runner_lives(
    tmp_path: Path, body: str, message: str
) -> None:
    image = build("host", tmp_path, toy_sources(body=body), toy_interface())
    good, bad = bytes(64), bytes([1]) + bytes(63)
    with open_runner(image, timeout_seconds=0.3) as runner:
        with pytest.raises(DeviceSilent, match=f"sample 1: .*{message}"):
            list(runner.run([(good,), (bad,)]))
        (result,) = runner.run([(good,)])
        assert result.outputs == (toy_reference(np.zeros(64, np.int8), 10),)


def test_a_program_that_reads_no_more_is_ended_in_time(tmp_path: Path) -> None:
    interface = dataclasses.replace(toy_interface(), inputs=(1 << 20,))
    image = dataclasses.replace(
        build("host", tmp_path, toy_sources(), toy_interface()), interface=interface
    )
    sample = (bytes(1 << 20),)
    for command, message in (("60", r"no answer within 0\.3 seconds"), ("0", "ended with 0")):
        with (
            ChildRunner(image, ("sleep", command), "nowhere", timeout_seconds=0.3) as runner,
            pytest.raises(DeviceSilent, match=f"sample 0: .*{message}"),
        ):
            list(runner.run([sample]))


def test_a_sample_of_the_wrong_size_is_named(tmp_path: Path) -> None:
    image = build("host", tmp_path, toy_sources(), toy_interface())
    with (
        open_runner(image) as runner,
        pytest.raises(DataError, match=r"sample 1 .* inputs of \(3,\) bytes; .* takes \(64,\)"),
    ):
        list(runner.run([(bytes(64),), (bytes(3),)]))


def test_an_image_of_another_kind_does_not_open(tmp_path: Path) -> None:
    image = build("host", tmp_path, toy_sources(), toy_interface())
    with pytest.raises(ConfigError, match="does not run on cortex-m4"):
        open_runner(image, M4)


@pytest.mark.skipif(not sanitizers_available(), reason="no gcc or clang with sanitizers here")
def test_the_sanitized_program_agrees_and_reports_an_overrun(tmp_path: Path) -> None:
    toolchain = sanitizer_compiler()
    assert toolchain is not None
    rows = samples(64, 3)
    good = compile_image(
        toolchain, HOST, toy_sources(), toy_interface(), tmp_path / "good", sanitize=True
    )
    with open_runner(good) as runner:
        results = [r.outputs[0] for r in runner.run(rows)]
    assert results == [toy_reference(np.frombuffer(x, np.int8), 10) for (x,) in rows]
    body = "ctx->state = toy_weights[x[0] + 20][0];"
    bad = compile_image(
        toolchain, HOST, toy_sources(body=body), toy_interface(), tmp_path / "bad", sanitize=True
    )
    with (
        open_runner(bad) as runner,
        pytest.raises(DeviceSilent, match=r"runtime error: index 20 out of bounds"),
    ):
        list(runner.run([(bytes(64),)]))


def test_sanitizers_without_a_system_compiler_are_refused_not_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zig = find_toolchain(None, HOST)
    with pytest.raises(ConfigError, match="sanitizers need gcc or clang on the host, not zig"):
        compile_image(zig, HOST, toy_sources(), toy_interface(), tmp_path, sanitize=True)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert sanitizer_compiler() is None
    assert not sanitizers_available()


def test_zig_that_is_not_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match=r"pip install ziglang==0\.15\.2"):
        find_toolchain(None, M4)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("cortex-m4", r"arm-none-eabi-gcc, .* apt install gcc-arm-none-eabi"),
        ("raspberry-pi-4", "aarch64-none-elf-gcc, .*Arm GNU toolchain"),
        ("host", "gcc, .*apt install gcc"),
    ],
)
def test_a_gcc_that_is_not_installed_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch, target: str, message: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissing, match=message):
        find_toolchain("gcc", target_named(target))


def test_an_unknown_toolchain_lists_those_that_are_allowed() -> None:
    with pytest.raises(ConfigError, match="'icc' is not known for host; allowed: zig, gcc, clang"):
        find_toolchain("icc", HOST)
    with pytest.raises(ConfigError, match=r"allowed: zig, gcc$"):
        find_toolchain("clang", M4)


def test_an_error_in_the_source_is_shown_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(
        ToolFailed, match=r"(?s)zig could not compile.*toy\.c:\d+:\d+: error: .*oops"
    ):
        build("host", tmp_path, toy_sources(body="oops();"), toy_interface())


@pytest.mark.parametrize("body", ["int unused;", "int8_t q = 300 + x[0]; ctx->state = q;"])
def test_warnings_are_errors(tmp_path: Path, body: str) -> None:
    with pytest.raises(ToolFailed, match="-Werror"):
        build("host", tmp_path, toy_sources(body=body), toy_interface())


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
@pytest.mark.parametrize("level", ["-O0", "-Os", "-O3"])
def test_gcc_builds_the_same_model_at_every_level(tmp_path: Path, level: str) -> None:
    gcc = find_toolchain("gcc", HOST)
    image = compile_image(gcc, HOST, toy_sources(), toy_interface(), tmp_path, opt=level)
    rows = samples(64, 3)
    with open_runner(image) as runner:
        results = [r.outputs[0] for r in runner.run(rows)]
    assert results == [toy_reference(np.frombuffer(x, np.int8), 10) for (x,) in rows]


def test_an_unknown_level_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="level '-O9'; allowed: -O0"):
        build("host", tmp_path, toy_sources(), toy_interface(), opt="-O9")


@pytest.mark.parametrize("name", ["../x.c", "/x.c", "tinsmith_harness.c"])
def test_a_source_outside_the_folder_or_under_a_taken_name_is_refused(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="source '"):
        build("host", tmp_path / "out", {**toy_sources(), name: ""}, toy_interface())
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named_when_sources_are_written(tmp_path: Path) -> None:
    (tmp_path / "toy.c").symlink_to("/dev/full")
    with pytest.raises(ToolFailed, match=r"the disk is full: .*toy\.c"):
        build("host", tmp_path, toy_sources(), toy_interface())


@pytest.mark.parametrize("text", ["error: NoSpaceLeft", "write: No space left on device"])
def test_a_full_disk_is_named_when_the_compiler_meets_it(tmp_path: Path, text: str) -> None:
    compiler = fake_compiler(tmp_path, text)
    with pytest.raises(ToolFailed, match="the disk is full: fake could not write"):
        compile_image(compiler, HOST, toy_sources(), toy_interface(), tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolFailed, match=r"file could not be written"):
        build("host", tmp_path / "file", toy_sources(), toy_interface())


def test_a_compiler_that_does_not_start_or_end_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Toolchain("gone", (str(tmp_path / "gone"),))
    with pytest.raises(ToolFailed, match="gone could not be started"):
        compile_image(gone, HOST, toy_sources(), toy_interface(), tmp_path / "out")
    monkeypatch.setattr(toolchains, "_COMPILE_SECONDS", 0.1)
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 5\n")
    slow.chmod(0o755)
    with pytest.raises(ToolFailed, match=r"slow did not finish within 0\.1 seconds"):
        compile_image(
            Toolchain("slow", (str(slow),)), HOST, toy_sources(), toy_interface(), tmp_path / "out"
        )


def test_the_cache_follows_the_users_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/tinsmith")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == Path.home() / ".cache" / "tinsmith"


def test_a_build_writes_only_into_its_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build("host", tmp_path / "out", toy_sources(), toy_interface())
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["tinsmith_harness.c", "tinsmith_harness.h", "toy.c", "toy.h", "toy.so"]


def test_a_reply_that_is_not_the_harnesss_is_an_error(tmp_path: Path) -> None:
    head = "long write(int fd, const void *data, unsigned long bytes);"
    body = 'if (write(1, "hello, world", 12u) != 12) { return 1; }'
    image = build("host", tmp_path, toy_sources(body=body, head=head), toy_interface())
    with (
        open_runner(image) as runner,
        pytest.raises(DeviceSilent, match="sample 0: the reply is not readable"),
    ):
        list(runner.run([(bytes(64),)]))


def test_a_program_that_is_gone_is_named(tmp_path: Path) -> None:
    image = build("host", tmp_path, toy_sources(), toy_interface())
    gone = dataclasses.replace(image, form="program", path=tmp_path / "gone")
    with (
        open_runner(gone) as runner,
        pytest.raises(ToolFailed, match="gone could not be started"),
    ):
        list(runner.run([(bytes(64),)]))
    library = dataclasses.replace(image, path=tmp_path / "gone.so")
    with (
        open_runner(library) as runner,
        pytest.raises(DeviceSilent, match=r"(?s)ended with 1.*gone\.so: cannot open"),
    ):
        list(runner.run([(bytes(64),)]))
