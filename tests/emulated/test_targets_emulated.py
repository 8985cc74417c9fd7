"""Models on emulated cores: outputs, instruction counts, stack, sizes, faults."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from support.toy_models import (
    assembly_sources,
    build,
    toy_interface,
    toy_reference,
    toy_sources,
)
from tinsmith.pipeline.errors import DeviceSilent, ToolMissing
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.emulators.runner import Result
from tinsmith.targets.harness import ModelInterface
from tinsmith.targets.image import Elf, Image, Sizes
from tinsmith.targets.isa import check_isa, instructions
from tinsmith.targets.target import target_named
from tinsmith.targets.toolchains import compile_image, find_toolchain

CORTEX_M = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")
PI = ("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5")
ASSEMBLY = ModelInterface("toy", (16,), (16,))

# 3 + 100 * 2 instructions in 10 bytes
COUNTED_THUMB = "movs r1, #100\n1: subs r1, #1\nbne 1b\nmovs r0, #0\nbx lr"
# 3 + 100 * 2 instructions in 20 bytes
COUNTED_A64 = "mov w1, #100\n1: subs w1, w1, #1\nb.ne 1b\nmov w0, #0\nbx lr"
# A wide instruction and an IT block in the loop: 2 + 50 * 5 + 2 instructions
COUNTED_THUMB2 = (
    "movw r1, #50\nmovs r2, #0\n1: subs.w r1, r1, #1\nite ne\nmovne r2, r1\nmoveq r3, r1\n"
    "bne 1b\nmovs r0, #0\nbx lr"
)


def samples(n: int, count: int) -> list[tuple[bytes]]:
    rng = np.random.default_rng(7)
    return [(rng.integers(-128, 128, n, dtype=np.int8).tobytes(),) for _ in range(count)]


def results_of(image: Image, rows: list[tuple[bytes]]) -> list[Result]:
    with open_runner(image) as runner:
        return list(runner.run(rows, check_alignment=True))


@pytest.mark.parametrize("name", CORTEX_M + PI)
def test_every_core_computes_what_the_reference_does(tmp_path: Path, name: str) -> None:
    for n, m in ((64, 10), (333, 7)):
        image = build(name, tmp_path / str(n), toy_sources(n, m), toy_interface(n, m))
        rows = samples(n, 3)
        results = results_of(image, rows)
        expected = [toy_reference(np.frombuffer(x, np.int8), m) for (x,) in rows]
        assert [r.outputs[0] for r in results] == expected
        assert results[0].instructions is not None
        assert results[0].instructions > n * m // 16
        check_isa(image)


@pytest.mark.parametrize("level", ["-Os", "-O3"])
def test_a_core_computes_the_same_at_other_levels(tmp_path: Path, level: str) -> None:
    image = build("cortex-m4", tmp_path, toy_sources(), toy_interface(), opt=level)
    ((row,),) = samples(64, 1)
    (result,) = results_of(image, [(row,)])
    assert result.outputs == (toy_reference(np.frombuffer(row, np.int8), 10),)


@pytest.mark.parametrize("name", CORTEX_M + PI)
def test_instructions_are_those_of_a_loop_counted_by_hand(tmp_path: Path, name: str) -> None:
    run = COUNTED_A64 if name in PI else COUNTED_THUMB
    image = build(name, tmp_path, assembly_sources(run), ASSEMBLY)
    results = results_of(image, [(bytes(16),)])
    assert [(r.instructions, r.stack_bytes) for r in results] == [(203, 0)]


@pytest.mark.parametrize("name", CORTEX_M[1:])
def test_wide_instructions_and_it_blocks_count_one_each(tmp_path: Path, name: str) -> None:
    image = build(name, tmp_path, assembly_sources(COUNTED_THUMB2), ASSEMBLY)
    (result,) = results_of(image, [(bytes(16),)])
    assert result.instructions == 254


def test_the_count_is_the_same_without_the_hook_in_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinsmith.targets.emulators import alignment, histogram

    image = build("cortex-m4", tmp_path, toy_sources(), toy_interface())
    rows = samples(64, 2)
    compiled = results_of(image, rows)
    monkeypatch.setattr(histogram, "hook_library", lambda: None)
    monkeypatch.setattr(alignment, "hook_library", lambda: None)
    assert results_of(image, rows) == compiled


@pytest.mark.parametrize("compiled", [True, False])
def test_what_the_model_traces_says_how_many_instructions_came_before(
    tmp_path: Path, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinsmith.targets.emulators import histogram

    if not compiled:
        monkeypatch.setattr(histogram, "hook_library", lambda: None)
    run = "push {r4, lr}\nmovs r4, #10\nmovs r2, #0\n1: bl tinsmith_trace\nsubs r4, #1\nbne 1b\n"
    image = build(
        "cortex-m4", tmp_path, assembly_sources(run + "movs r0, #0\npop {r4, pc}"), ASSEMBLY
    )
    with open_runner(image) as runner:
        counted, plain = runner.run([(bytes(16),)] * 2)
    assert counted.trace_instructions == tuple(4 + 3 * i for i in range(10))
    assert plain.trace_instructions == ()
    assert counted.instructions == 4 + 3 * 9 + 4


def test_counting_does_not_change_outputs_and_happens_when_asked(tmp_path: Path) -> None:
    image = build("cortex-m4", tmp_path, toy_sources(), toy_interface())
    rows = samples(64, 3)
    with open_runner(image) as runner:
        first = list(runner.run(rows))
        every = list(runner.run(rows, count="all"))
        never = list(runner.run(rows, count="none"))
    assert [r.outputs for r in first] == [r.outputs for r in every] == [r.outputs for r in never]
    assert [r.instructions is None for r in first] == [False, True, True]
    assert every[0].instructions == first[0].instructions
    assert all(r.instructions and r.stack_bytes for r in every)
    assert {(r.instructions, r.stack_bytes) for r in never} == {(None, None)}


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4"])
def test_the_stack_is_that_of_a_frame_of_known_size(tmp_path: Path, name: str) -> None:
    # push of five registers, 44 bytes below; the lowest word is written: 64 bytes
    run = "push {r4, r5, r6, r7, lr}\nsub sp, #44\nstr r0, [sp]\nadd sp, #44\nmovs r0, #0\n"
    run += "pop {r4, r5, r6, r7, pc}"
    image = build(name, tmp_path, assembly_sources(run), ASSEMBLY)
    (result,) = results_of(image, [(bytes(16),)])
    assert (result.instructions, result.stack_bytes) == (6, 64)


def test_the_stack_of_aarch64_is_that_of_a_frame_of_known_size(tmp_path: Path) -> None:
    run = "str x0, [sp, #-48]!\nldr x1, [sp], #48\nmov w0, #0\nbx lr"
    image = build("raspberry-pi-4", tmp_path, assembly_sources(run), ASSEMBLY)
    (result,) = results_of(image, [(bytes(16),)])
    assert (result.instructions, result.stack_bytes) == (4, 48)


@pytest.mark.parametrize("name", ["cortex-m4", "raspberry-pi-3"])
def test_state_and_trace_work_on_a_device(tmp_path: Path, name: str) -> None:
    head = "void tinsmith_trace(int step, const void *data, unsigned bytes);"
    body = "tinsmith_trace(-3, x, 4u); tinsmith_trace(5, x + 4, 2u);"
    image = build(name, tmp_path, toy_sources(body=body, head=head), toy_interface())
    ((row,),) = samples(64, 1)
    x = np.frombuffer(row, np.int8)
    with open_runner(image) as runner:
        for _ in range(2):
            results = list(runner.run([(row,)] * 3, reset_each=False))
            assert [r.outputs[0] for r in results] == [toy_reference(x, 10, s) for s in range(3)]
            assert {r.trace for r in results} == {((-3, row[:4]), (5, row[4:6]))}


FAULTS = (
    ("ctx->arena[x[1] + 96] = 1;", r"write of 1 bytes at .*16 bytes past the end of the context"),
    ("ctx->state = ctx->arena[x[1] + 97];", r"read of 1 bytes at .*past the end of the context"),
    ("ctx->arena[x[1] - 3] = 1;", r"a byte 3 bytes before the context was overwritten"),
    (
        "*(volatile int8_t *)(uintptr_t)&toy_weights[0][3] = 1;",
        r"write of 1 bytes at .*toy_weights\+0x3, which is read-only\) in toy_run\+0x",
    ),
    ("*(volatile int8_t *)(uintptr_t)(8u + (unsigned)x[1]) = 1;", r"at 0x8 \(a null pointer\)"),
    ("((void (*)(void))(uintptr_t)0x66600001u)();", r"jump to 0x6660000.*link register is toy_run"),
    ("__builtin_trap();", r"in toy_run\+0x"),
    ('for (;;) { __asm__ volatile(""); }', r"still in toy_run\+0x\w+ after 0\.3 seconds"),
    ("return -7;", "toy_run gave -7"),
)


@pytest.mark.parametrize("name", ["cortex-m0plus", "cortex-m4", "raspberry-pi-3"])
def test_a_fault_names_what_where_and_who_and_the_runner_lives(tmp_path: Path, name: str) -> None:
    good, bad = bytes(64), bytes([1]) + bytes(63)
    for i, (body, message) in enumerate(FAULTS):
        sources = toy_sources(body=f"if (x[0] == 1) {{ {body} }}")
        image = build(name, tmp_path / str(i), sources, toy_interface())
        with open_runner(image, timeout_seconds=0.3) as runner:
            for count in ("first", "none"):
                with pytest.raises(DeviceSilent, match=f"on {name}, sample 1: .*{message}"):
                    list(runner.run([(good,), (bad,)], count=count))  # type: ignore[arg-type]
            (result,) = runner.run([(good,)])
            assert result.outputs == (toy_reference(np.zeros(64, np.int8), 10),)


def test_a_stack_that_is_too_deep_is_a_fault(tmp_path: Path) -> None:
    run = "movs r1, #1\nlsls r1, r1, #19\nmov r2, sp\nsubs r2, r2, r1\nstr r0, [r2]\nbx lr"
    image = build("cortex-m0plus", tmp_path, assembly_sources(run), ASSEMBLY)
    with pytest.raises(DeviceSilent, match="below the stack of 262144 bytes"):
        results_of(image, [(bytes(16),)])


def test_an_input_outside_the_context_is_refused(tmp_path: Path) -> None:
    sources = assembly_sources("movs r0, #0\nbx lr")
    sources["toy.c"] = sources["toy.c"].replace(
        'ASM("toy_input", "RETURN")', 'ASM("toy_input", "movs r0, #64\\nRETURN")'
    )
    with pytest.raises(DeviceSilent, match="input 0 is at 0x40, outside the context"):
        open_runner(build("cortex-m3", tmp_path, sources, ASSEMBLY))


def test_a_context_is_not_zero_before_it_is_initialized(tmp_path: Path) -> None:
    """So that a model that counts on zeros shows: this one keeps the emulator's paint."""
    sources = toy_sources()
    sources["toy.c"] = sources["toy.c"].replace("{ ctx->state = 0; }", "{ (void)ctx; }")
    image = build("cortex-m3", tmp_path, sources, toy_interface())
    x = np.zeros(64, np.int8)
    with open_runner(image) as runner:
        (result,) = runner.run([(x.tobytes(),)])
    assert result.outputs == (toy_reference(x, 10, 0xA5 - 256),)


@pytest.mark.parametrize(
    ("name", "code"), [("cortex-m3", 4 * 2 + 10), ("raspberry-pi-4", 4 * 4 + 20)]
)
def test_sizes_are_exact_where_every_byte_is_known(tmp_path: Path, name: str, code: int) -> None:
    run = COUNTED_A64 if name in PI else COUNTED_THUMB
    image = build(name, tmp_path / "code", assembly_sources(run), ASSEMBLY)
    assert image.sizes == Sizes(code, 0, 0, 0, 32)
    # A pool of four pointers, 100 bytes of weights, a table of 20, variables of 8 and 12.
    width, directive = (8, ".quad") if name in PI else (4, ".word")
    names = ("toy_weights", "toy_table", "toy_data", "toy_zeroed")
    pool = "\n".join(f"{directive} {symbol}" for symbol in names)
    sources = assembly_sources(f"{run}\n.balign 8\n{pool}")
    sources["toy.c"] += """
extern const int8_t toy_weights[100];
extern const int32_t toy_table[5];
extern int32_t toy_data[2], toy_zeroed[3];
const int8_t toy_weights[100] = {1};
const int32_t toy_table[5] = {1};
int32_t toy_data[2] = {1};
int32_t toy_zeroed[3];
"""
    full = build(name, tmp_path / "data", sources, ASSEMBLY).sizes
    assert full is not None
    assert (full.weight_bytes, full.data_bytes, full.bss_bytes) == (100, 8, 12)
    padding = full.code_bytes - (code + 4 * width + 20 + 8)
    assert 0 <= padding < 16
    assert full.flash_bytes == full.code_bytes + 100
    assert full.ram_bytes == 32 + 8 + 12


def test_library_routines_that_the_model_pulls_in_are_counted(tmp_path: Path) -> None:
    plain = build("cortex-m3", tmp_path / "a", toy_sources(), toy_interface())
    body = "__builtin_memset(y, x[0], (unsigned)(uint8_t)x[1] % 10u);"
    more = build("cortex-m3", tmp_path / "b", toy_sources(body=body), toy_interface())
    assert plain.sizes is not None
    assert more.sizes is not None
    elf = Elf(more.path)
    routines = [s for s in elf.symbols if "memset" in s.name or s.name.startswith("__aeabi")]
    assert routines
    assert more.sizes.code_bytes >= plain.sizes.code_bytes + sum(s.size for s in routines[:1])
    assert more.sizes.weight_bytes == plain.sizes.weight_bytes == 640


def test_initialized_variables_are_copied_before_the_model_starts(tmp_path: Path) -> None:
    head = "static volatile int32_t toy_counter = 40; static volatile int32_t toy_zero;"
    body = "toy_zero = toy_zero + 1; toy_counter = toy_counter + toy_zero;"
    sources = toy_sources(body=body, head=head)
    sources["toy.c"] = sources["toy.c"].replace("+ ctx->state", "+ toy_counter")
    image = build("cortex-m0plus", tmp_path, sources, toy_interface())
    x = np.zeros(64, np.int8)
    (result,) = results_of(image, [(x.tobytes(),)])
    assert image.sizes is not None
    assert (image.sizes.data_bytes, image.sizes.bss_bytes) == (4, 4)
    # the alignment check runs the sample once before: 40 + 1, then + 2
    assert result.outputs == (toy_reference(x, 10, 43),)


@pytest.mark.parametrize(
    ("name", "instruction", "text"),
    [
        ("cortex-m0plus", ".inst.w 0xfbb0f0f1", "udiv"),
        ("cortex-m0plus", ".inst.n 0xbf08", "it"),
        ("cortex-m3", ".inst.w 0xfb20f001", "smuad"),
        ("cortex-m3", ".inst.w 0xee300a20", "vadd"),
        ("cortex-m4", ".inst.w 0xfe300a20", "vsel"),
        ("cortex-m7", ".inst.w 0xee300b01", "vadd.f64"),
        ("raspberry-pi-4", ".inst 0x4e829420", "sdot"),
        ("raspberry-pi-3", ".inst 0x04a10020", "z0"),
        ("raspberry-pi-5", ".inst 0x04a10020", "z0"),
        ("raspberry-pi-5", ".inst 0x4e82a420", "smmla"),
    ],
)
def test_an_instruction_that_the_core_lacks_is_named(
    tmp_path: Path, name: str, instruction: str, text: str
) -> None:
    sources = assembly_sources(f"{instruction}\nbx lr")
    image = build(name, tmp_path, sources, ASSEMBLY)
    with pytest.raises(
        DeviceSilent, match=rf"has 1 instructions that .*\n  toy_run\+0x0: .*{text}"
    ):
        check_isa(image)


def test_code_for_a_larger_core_does_not_pass_for_a_smaller_one(tmp_path: Path) -> None:
    dot = "sdot v0.4s, v1.16b, v2.16b\nmov w0, #0\nbx lr"
    image = build("raspberry-pi-5", tmp_path / "5", assembly_sources(dot), ASSEMBLY)
    check_isa(image)
    assert results_of(image, [(bytes(16),)])[0].instructions == 3
    with pytest.raises(DeviceSilent, match="cortex-a72"):
        check_isa(image, target_named("raspberry-pi-4"))
    with (
        open_runner(image, target_named("raspberry-pi-4")) as runner,
        pytest.raises(DeviceSilent, match=r"in toy_run\+0x"),
    ):
        list(runner.run([(bytes(16),)]))


def test_literal_pools_are_not_taken_for_instructions(tmp_path: Path) -> None:
    run = "ldr r0, 1f\nmovs r0, #0\nbx lr\n.balign 4\n1: .word 0xfbb0f0f1"
    image = build("cortex-m0plus", tmp_path, assembly_sources(run), ASSEMBLY)
    check_isa(image)
    found = [i.text for i in instructions(Elf(image.path), image.target)]
    assert len([t for t in found if t.startswith("ldr")]) == 1


@pytest.mark.parametrize(
    ("name", "access", "faults"),
    [
        ("cortex-m0plus", "ldr r1, [r1]", True),
        ("cortex-m0plus", "ldrh r1, [r1]", True),
        ("cortex-m0plus", "strb r1, [r1]", False),
        ("cortex-m3", "ldr r1, [r1]", False),
        ("cortex-m3", "strh r1, [r1]", False),
        ("cortex-m3", "ldrd r2, r3, [r1]", True),
        ("cortex-m3", "stm r1!, {r2, r3}", True),
        ("cortex-m4", "vldr s0, [r1]", True),
    ],
)
def test_an_access_that_must_be_aligned_is_named(
    tmp_path: Path, name: str, access: str, faults: bool
) -> None:
    run = f"adds r0, #1\nmov r1, r0\n{access}\nmovs r0, #0\nbx lr"
    image = build(name, tmp_path, assembly_sources(run), ASSEMBLY)
    with open_runner(image) as runner:
        list(runner.run([(bytes(16),)]))
        if not faults:
            list(runner.run([(bytes(16),)], check_alignment=True))
            return
        mnemonic = access.split()[0]
        message = (
            rf"1 instructions access .*\n  toy_run\+0x4: {mnemonic}.* \(byte 1 of the context\)"
        )
        with pytest.raises(DeviceSilent, match=message):
            list(runner.run([(bytes(16),)], check_alignment=True))


def test_an_image_runs_on_another_board_of_its_kind(tmp_path: Path) -> None:
    image = build("cortex-m3", tmp_path, toy_sources(), toy_interface())
    with open_runner(image, target_named("nucleo-h743zi")) as runner:
        (result,) = runner.run([(bytes(64),)])
    assert result.outputs == (toy_reference(np.zeros(64, np.int8), 10),)


def test_unicorn_that_is_not_installed_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = build("cortex-m3", tmp_path, toy_sources(), toy_interface())
    monkeypatch.delitem(sys.modules, "tinsmith.targets.emulators.unicorn", raising=False)
    monkeypatch.setitem(sys.modules, "unicorn", None)
    with pytest.raises(ToolMissing, match=r"pip install unicorn==2\.1\.4"):
        open_runner(image)
    monkeypatch.undo()
    importlib.import_module("tinsmith.targets.emulators.unicorn")


@pytest.mark.parametrize("compiled", [True, False])
def test_watching_accesses_does_not_disturb_it_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    from tinsmith.targets.emulators import alignment

    if not compiled:
        monkeypatch.setattr(alignment, "hook_library", lambda: None)
    run = "movs r1, #5\ncmp r1, #5\nitt eq\nldreq r2, [r0]\nmoveq r3, #0\ncmp r1, #6\nb 2f\n"
    run += "2: movs r0, #0\nbx lr"
    image = build("cortex-m4", tmp_path, assembly_sources(run), ASSEMBLY)
    (result,) = results_of(image, [(bytes(16),)])
    assert result.instructions == 9


def test_a_fault_within_an_it_block_leaves_no_condition_behind(tmp_path: Path) -> None:
    run = "ldrb r1, [r0]\nmovs r2, #0\ncmp r1, #1\nittt eq\nstreq r1, [r2]\nmoveq r3, #0\n"
    run += "moveq r3, #1\nmovs r0, #0\nbx lr"
    image = build("cortex-m4", tmp_path, assembly_sources(run), ASSEMBLY)
    with open_runner(image) as runner:
        with pytest.raises(DeviceSilent, match=r"write of 4 bytes at 0x0 \(a null pointer\)"):
            list(runner.run([(bytes([1]) + bytes(15),)]))
        (result,) = runner.run([(bytes(16),)])
    assert result.instructions == 9


def test_a_runner_starts_afresh_after_a_fault(tmp_path: Path) -> None:
    """What is kept outside the context, in variables, is as it was at the start."""
    head = "static volatile int32_t toy_counter = 40;"
    body = "toy_counter = toy_counter + 1; if (x[0] == 1) { return -1; }"
    sources = toy_sources(body=body, head=head)
    sources["toy.c"] = sources["toy.c"].replace("+ ctx->state", "+ toy_counter")
    image = build("cortex-m3", tmp_path, sources, toy_interface())
    good, bad = bytes(64), bytes([1]) + bytes(63)
    x = np.zeros(64, np.int8)
    with open_runner(image) as runner:
        first = [r.outputs[0] for r in runner.run([(good,)] * 2)]
        assert first == [toy_reference(x, 10, 41), toy_reference(x, 10, 42)]
        with pytest.raises(DeviceSilent, match="toy_run gave -1"):
            list(runner.run([(bad,)]))
        (result,) = runner.run([(good,)])
    assert result.outputs == (toy_reference(x, 10, 41),)


def test_extra_flags_reach_the_compiler(tmp_path: Path) -> None:
    target = target_named("cortex-m3")
    sources = toy_sources(body="ctx->state = TOY_STATE;")
    image = compile_image(
        find_toolchain(None, target), target, sources, toy_interface(), tmp_path,
        extra_flags=("-DTOY_STATE=9",),
    )  # fmt: skip
    (result,) = results_of(image, [(bytes(64),)])
    assert result.outputs == (toy_reference(np.zeros(64, np.int8), 10, 9),)


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc here")
@pytest.mark.parametrize("name", CORTEX_M)
@pytest.mark.parametrize("level", ["-O0", "-Os", "-O3"])
def test_gcc_makes_the_same_numbers(tmp_path: Path, name: str, level: str) -> None:
    target = target_named(name)
    image = compile_image(
        find_toolchain("gcc", target), target, toy_sources(), toy_interface(), tmp_path,
        opt=level, weight_symbols=("toy_weights",),
    )  # fmt: skip
    check_isa(image)
    rows = samples(64, 3)
    expected = [toy_reference(np.frombuffer(x, np.int8), 10) for (x,) in rows]
    assert [r.outputs[0] for r in results_of(image, rows)] == expected
    assert image.sizes is not None
    assert image.sizes.weight_bytes == 640
