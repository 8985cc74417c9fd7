"""What a run says of the arena: how large it is, and whether that is proven to be the least."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from support.nets import Net
from tinsmith.codegen.lower import lower
from tinsmith.codegen.program import Program
from tinsmith.pipeline.ops.conv2d import Conv2dAttrs
from tinsmith.pipeline.report.run_view import _print_targets
from tinsmith.pipeline.report.tables import print_validation
from tinsmith.pipeline.validation import Validation, random_samples, validate
from tinsmith.targets.target import target_named


@pytest.fixture(scope="module")
def program() -> Program:
    net = Net("net", np.random.default_rng(3))
    x = net.input((1, 6, 6, 3))
    y = net.node("conv2d", [x, net.weights((4, 3, 3, 3), x, axis=0)], Conv2dAttrs())
    return lower(net.graph([y]), "net", ("c",))


def reported(program: Program) -> Validation:
    samples = random_samples(program.graph, 1)
    return validate(program, target_named("host"), samples, oracles=False)[0]


def printed(report: Validation) -> tuple[str, str]:
    """The lines that `run` and `validate` print of the arena."""
    fields: dict[str, Any] = {**report.json(), "accuracy": 50.0}
    console = Console(record=True, width=200)
    _print_targets(console, {"host": fields})
    run = next(line for line in console.export_text().splitlines() if "50.00 %" in line)
    print_validation(console, report)
    lines = console.export_text().splitlines()
    return run, next(line for line in lines if "least arena of these calls" in line)


def test_a_run_says_that_the_arena_is_proven_to_be_the_least(program: Program) -> None:
    report = reported(program)
    assert program.arena_is_proven, "this network tests nothing"
    assert report.json()["arena_is_proven"] is True
    assert report.json()["arena_lower_bound"] == program.arena_bytes
    run, own = printed(report)
    assert f"{program.arena_bytes:,}   " in run
    assert "proven" in run and "proven" in own


def test_a_run_gives_the_bound_where_nothing_is_proven(program: Program) -> None:
    loose = replace(program, arena_lower_bound=program.arena_bytes - 8)
    report = reported(loose)
    assert report.json()["arena_is_proven"] is False
    for line in printed(report):
        assert f"at least {program.arena_bytes - 8:,}" in line and "proven" not in line
