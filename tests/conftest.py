"""Options of the test run."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

# Reasons to skip that hold on every machine: the thing does not exist. All others are about what is
# installed, and a machine that claims to have everything (--forbid-skips) must not use them.
HOLDS_EVERYWHERE = (
    " lacks ",
    "no other runtime has ",
    "this case is in float",
)


@pytest.fixture(autouse=True)
def own_random_numbers(request: pytest.FixtureRequest) -> None:
    """A module's RNG starts afresh for each test: none depends on those that ran before it."""
    if hasattr(request.module, "RNG"):
        request.module.RNG = np.random.default_rng(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--forbid-skips",
        action="store_true",
        help="fail a test that skips for want of something that could be installed",
    )


def _forbid(config: pytest.Config, report: Any) -> None:
    if not config.getoption("--forbid-skips") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if any(text in reason for text in HOLDS_EVERYWHERE):
        return
    report.outcome = "failed"
    report.longrepr = f"skipped where nothing may skip (--forbid-skips): {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid(collector.config, report)
    return report
