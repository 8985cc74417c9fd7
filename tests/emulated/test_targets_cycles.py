"""Cycle estimates: exact where the manual is, a range elsewhere, none where none is honest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from support.toy_models import assembly_sources, build, toy_interface, toy_sources
from tinsmith.targets.cycles import CycleEstimate, estimate_cycles
from tinsmith.targets.emulators import open_runner
from tinsmith.targets.harness import ModelInterface
from tinsmith.targets.image import Image
from tinsmith.targets.target import Target, target_named

ASSEMBLY = ModelInterface("toy", (16,), (16,))


def estimate(image: Image, target: Target | None = None) -> CycleEstimate | None:
    with open_runner(image, target) as runner:
        sizes = image.interface.inputs
        list(runner.run([tuple(bytes(n) for n in sizes)]))
        return estimate_cycles(image, image.target if target is None else target, runner.blocks)


def cycles(folder: Path, name: str, run: str, target: Target | None = None) -> tuple[int, int]:
    found = estimate(build(name, folder, assembly_sources(run), ASSEMBLY), target)
    assert found is not None
    assert name in found.basis
    return found.low, found.high


LOOP = "movs r1, #100\n1: subs r1, #1\nbne 1b\nmovs r0, #0\nbx lr"
CALL = "push {r4, lr}\nldr r1, [r0]\nldr r2, [r0]\nstr r1, [r0]\nmovs r0, #0\npop {r4, pc}"


@pytest.mark.parametrize(
    ("name", "run", "low", "high"),
    [
        # a taken branch costs 2 on M0+, the last BNE 1, BX 2
        ("cortex-m0plus", LOOP, 1 + 100 + 99 * 2 + 1 + 1 + 2, 1 + 100 + 99 * 2 + 1 + 1 + 2),
        # PUSH 1 + 2, loads and stores 2 each, POP with PC 3 + 2
        ("cortex-m0plus", CALL, 3 + 6 + 1 + 5, 3 + 6 + 1 + 5),
        # a taken branch costs 1 + 1..3
        ("cortex-m4", LOOP, 1 + 100 + 99 * 2 + 1 + 1 + 2, 1 + 100 + 99 * 4 + 1 + 1 + 4),
        # the second load may overlap the first; a store takes 1 or 2; POP 1 + 2 + 1..3
        ("cortex-m4", CALL, 3 + 2 + 1 + 1 + 1 + 4, 3 + 2 + 2 + 2 + 1 + 6),
        ("cortex-m3", "smull r1, r2, r0, r0\nmla r1, r1, r2, r0\nmovs r0, #0\nbx lr", 8, 12),
        ("cortex-m4", "smull r1, r2, r0, r0\nmla r1, r1, r2, r0\nmovs r0, #0\nbx lr", 5, 7),
        ("cortex-m4", "udiv r1, r0, r0\nmovs r0, #0\nbx lr", 2 + 1 + 2, 12 + 1 + 4),
        ("cortex-m4", "ldm r0, {r1-r3}\nldrd r2, r3, [r0]\nmovs r0, #0\nbx lr", 10, 12),
        # IT may be folded; a load whose condition fails takes one cycle
        ("cortex-m4", "cmp r0, #0\nit eq\nldreq r1, [r0]\nmovs r0, #0\nbx lr", 5, 9),
        ("cortex-m4", "vldm r0, {s0-s3}\nvldm r0, {d0-d1}\nmovs r0, #0\nbx lr", 13, 15),
        ("cortex-m33", "movs r1, #1\nmovs r2, #2\nmovs r3, #3\nmovs r0, #0\nbx lr", 3, 8),
    ],
)  # fmt: skip
def test_cycles_are_those_of_the_manual(
    tmp_path: Path, name: str, run: str, low: int, high: int
) -> None:
    assert cycles(tmp_path, name, run) == (low, high)


def test_a_multiplication_on_m0plus_takes_what_the_maker_chose(tmp_path: Path) -> None:
    run = "muls r0, r0, r0\nmovs r0, #0\nbx lr"
    image = build("cortex-m0plus", tmp_path, assembly_sources(run), ASSEMBLY)
    assert estimate(image) == CycleEstimate(4, 35, "estimate for cortex-m0plus at zero wait states")
    pico = estimate(image, target_named("raspberry-pi-pico"))
    assert pico is not None
    assert (pico.low, pico.high) == (4, 4)
    slow = dataclasses.replace(target_named("cortex-m0plus"), multiply_cycles=32)
    found = estimate(image, slow)
    assert found is not None
    assert (found.low, found.high) == (35, 35)


def test_m7_gets_only_a_bound(tmp_path: Path) -> None:
    image = build("cortex-m7", tmp_path, assembly_sources(LOOP), ASSEMBLY)
    assert estimate(image) == CycleEstimate(102, 203, "bound for two instructions a cycle, M7")


@pytest.mark.parametrize("name", ["raspberry-pi-4", "host"])
def test_no_estimate_is_made_where_none_is_honest(tmp_path: Path, name: str) -> None:
    image = build(name, tmp_path, toy_sources(), toy_interface())
    assert estimate(image) is None


def test_the_estimate_is_the_same_without_the_hook_in_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tinsmith.targets.emulators import histogram

    image = build("cortex-m4", tmp_path, toy_sources(), toy_interface())
    compiled = estimate(image)
    monkeypatch.setattr(histogram, "hook_library", lambda: None)
    assert estimate(image) == compiled
