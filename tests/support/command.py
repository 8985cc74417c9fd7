"""The command line, called as a user does, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinsmith.pipeline.cli import main


def run(*arguments: str | Path) -> int:
    """Its exit code."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert isinstance(stop.value.code, int)
    return stop.value.code
