"""Targets, boards and the harness's text: nothing here needs a compiler."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from tinsmith.pipeline.errors import ConfigError, UnknownTarget
from tinsmith.targets.cores import CORES, CORES_BY_NAME
from tinsmith.targets.harness import EMULATED_LAYOUT, ModelInterface, harness_files
from tinsmith.targets.target import (
    Region,
    Target,
    all_targets,
    read_board,
    target_named,
    with_limits,
)

BOARDS = (
    "nucleo-l4r5zi",
    "nucleo-f746zg",
    "nucleo-h743zi",
    "nucleo-u575zi-q",
    "raspberry-pi-pico",
    "raspberry-pi-pico-2",
    "arduino-nano-33-ble",
    "nrf52840-dk",
    "stm32f4-discovery",
    "mps2-an385",
    "mps2-an386",
    "mps2-an500",
    "mps2-an505",
    "raspberry-pi-3",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2",
)
GENERIC = ("host", "cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")


REGION = """
title = 'x'
core = 'cortex-m4'
[[regions]]
name = '{}'
kind = '{}'
start = 0
bytes = 1
section = '{}'
"""


def test_every_promised_target_exists_once() -> None:
    names = [target.name for target in all_targets()]
    assert sorted(names) == sorted((*BOARDS, *GENERIC))


@pytest.mark.parametrize("name", GENERIC)
def test_a_generic_core_sets_no_limits(name: str) -> None:
    target = target_named(name)
    assert (target.flash_bytes, target.ram_bytes, target.clock_hz) == (None, None, None)


def adjacent_ram(board: Target) -> list[int]:
    """The sizes of pairs of RAM regions that lie one behind the other."""
    ram = sorted((r for r in board.regions if r.kind == "ram"), key=lambda r: r.start)
    return [a.bytes + b.bytes for a, b in itertools.pairwise(ram) if a.start + a.bytes == b.start]


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_has_limits_that_its_regions_bear_out(name: str) -> None:
    board = target_named(name)
    assert board.ram_bytes is not None
    assert board.clock_hz is not None
    if board.kind == "cortex-m":
        sizes = {
            kind: [r.bytes for r in board.regions if r.kind == kind] for kind in ("flash", "ram")
        }
        assert board.flash_bytes == max(sizes["flash"])
        assert board.ram_bytes in {*sizes["ram"], *adjacent_ram(board)}
        spans = sorted((r.start, r.start + r.bytes) for r in board.regions)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_instruction_sets_go_from_specific_to_portable() -> None:
    assert target_named("raspberry-pi-5").isa == ("neon_dot", "neon", "c")
    assert target_named("raspberry-pi-4").isa == ("neon", "c")
    assert target_named("raspberry-pi-pico").isa == ("m0", "c")
    assert target_named("mps2-an385").isa == ("m3", "c")
    assert target_named("nucleo-l4r5zi").isa == ("dsp", "c")
    assert target_named("host").isa == ("c",)
    assert all(core.isa[-1] == "c" for core in CORES)


def test_a_wrong_name_offers_the_nearest_and_the_command_that_lists() -> None:
    with pytest.raises(UnknownTarget, match=r"'nucleo-l4r5z' does not exist.*nucleo-l4r5zi") as e:
        target_named("nucleo-l4r5z")
    assert "`tinsmith targets`" in str(e.value)
    with pytest.raises(UnknownTarget, match=r"does not exist\. `tinsmith targets` lists all \d+"):
        target_named("@@@@")


def test_limits_replace_only_what_is_given() -> None:
    board = target_named("nucleo-l4r5zi")
    small = with_limits(board, ram_bytes=1000)
    assert (small.flash_bytes, small.ram_bytes) == (board.flash_bytes, 1000)
    assert with_limits(target_named("cortex-m4"), flash_bytes=5).flash_bytes == 5
    assert board.ram_bytes == 640 * 1024


@pytest.mark.parametrize("value", [0, -1, True, 1.5])
def test_a_limit_that_is_not_a_positive_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="ram_bytes is"):
        dataclasses.replace(target_named("cortex-m4"), ram_bytes=value)


def test_a_target_without_a_name_or_portable_kernels_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a name"):
        Target(name="", title="", core=CORES_BY_NAME["cortex-m3"])
    core = dataclasses.replace(CORES_BY_NAME["cortex-m3"], isa=("m3",))
    with pytest.raises(ConfigError, match="must end with 'c'"):
        Target(name="x", title="", core=core)
    with pytest.raises(ConfigError, match=r"kind 'vax'; allowed"):
        Target(name="x", title="", core=dataclasses.replace(core, kind="vax"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = 'x'\n", "'core' is missing"),
        ("title = 'x'\ncore = 'z80'\n", "core 'z80' is not known; allowed: host, cortex-m0plus"),
        ("title = 'x'\ncore = 'cortex-m4'\nspeed = 1\n", "'speed' is not known; allowed"),
        ("title = [", "board file .*x.toml"),
        ("title = 'x'\ncore = ['m']\n", r"board file .*x.toml: core is \['m'\], not a text"),
        ("title = 3\ncore = 'cortex-m4'\n", "title is 3, not a text"),
        ("title = 'x'\ncore = 'cortex-m4'\nregions = 3\n", r"'regions' are tables: \[\[regions"),
        ("title = 'x'\ncore = 'cortex-m4'\nregions = [3]\n", r"'regions' are tables: \[\[regions"),
        (
            "title = 'x'\ncore = 'cortex-m4'\n"
            + 2 * "[[regions]]\nname = 'r'\nkind = 'ram'\nstart = 0\nbytes = 8\n",
            "there are two regions 'r'",
        ),
        (
            "title = 'x'\ncore = 'cortex-m4'\n[[regions]]\nname = 3\nkind = 'ram'\n"
            "start = 0\nbytes = 1\nsection = '.bss.x'\n",
            "region 3: its name is not a text",
        ),
        ("title = 'x'\ncore = 'cortex-m4'\nram_bytes = 'big'\n", "ram_bytes is 'big'"),
        (
            "title = 'x'\ncore = 'cortex-m4'\n[[regions]]\nname = 'r'\nkind = 'rom'\n"
            "start = 0\nbytes = 1\n",
            r"board file .*x.toml: region 'r': kind 'rom'",
        ),
        ("title = 'x'\ncore = 'cortex-m4'\n[[regions]]\nname = 'r'\n", "'bytes' is missing"),
        (
            "title = 'x'\ncore = 'cortex-m4'\n[[regions]]\nname = 'r'\nkind = 'ram'\n"
            "start = 0\nbytes = 0\n",
            "are not a memory",
        ),
        (
            "title = 'x'\ncore = 'cortex-m4'\n[[regions]]\nname = 'r'\nkind = 'ram'\n"
            "start = 'low'\nbytes = 1\n",
            "start 'low' and bytes 1 are not a memory",
        ),
        (REGION.format("r", "ram", '.bss"x'), "section '.bss\"x'; allowed: letters, digits"),
        (REGION.format("r+s", "ram", ".bss.r"), "allowed: small letters, digits and '_'"),
        (REGION.format("r", "flash", ""), "a flash without a section needs no key 'section'"),
    ],
)
def test_a_wrong_board_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_board(path)


def test_a_board_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: it can't be read: No such file"):
        read_board(tmp_path / "gone.toml")


def test_a_board_file_of_the_users_own_is_a_target(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("title = 'mine'\ncore = 'cortex-m4'\nram_bytes = 1000\n")
    assert target_named(str(path)).ram_bytes == 1000
    assert target_named(str(path)).name == "mine"


def test_a_region_keeps_its_place() -> None:
    regions = {r.name: r for r in target_named("stm32f4-discovery").regions}
    assert regions["ccm"] == Region("ccm", "ram", 0x1000_0000, 64 * 1024, ".bss.ccm")


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "message"),
    [
        ("2x", (1,), (1,), "not a C identifier"),
        ("größe", (1,), (1,), "not a C identifier"),
        ("x", (0,), (1,), "at least one byte"),
        ("x", (1,), (), "has no output"),
    ],
)
def test_a_model_interface_that_no_c_can_have_is_refused(
    name: str, inputs: tuple[int, ...], outputs: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelInterface(name, inputs, outputs)


def test_the_harness_of_a_device_has_a_linker_script_and_that_of_the_host_none() -> None:
    interface = ModelInterface("kws", (490,), (12,))
    device = harness_files(target_named("cortex-m4"), interface)
    assert f"{EMULATED_LAYOUT.flash:#x}" in device["tinsmith_harness.ld"]
    assert "$" not in device["tinsmith_harness.ld"]
    host = harness_files(target_named("host"), interface)
    assert sorted(host) == ["tinsmith_harness.c", "tinsmith_harness.h"]
    assert "#define MODEL_INPUT_BYTES {490u}" in host["tinsmith_harness.h"]
