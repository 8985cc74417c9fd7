"""Measurements are kept: what was measured once is not measured again unless something changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tinsmith.targets
from tinsmith.codegen.emit import emit
from tinsmith.codegen.program import Program
from tinsmith.targets.toolchains import cache_dir

# What a count depends on beside the model's C.
_EMULATION = sorted(
    path
    for folder in tinsmith.targets.__path__
    for pattern in ("*.py", "*.c", "*.ld", "emulators/*")
    for path in Path(folder).glob(pattern)
    if path.is_file()
)


def kept(
    program: Program, facts: object, measure: Callable[[], Any], *, trace: bool = False
) -> Any:
    """What `measure` gives, as JSON can tell it.

    It is asked once for a program's C, the facts, the emulation's sources and its tools' versions.
    """
    tools = (version("ziglang"), version("unicorn"))
    sources = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in _EMULATION)
    key = repr((emit(program, trace=trace).model, facts, tools, sources))
    path = cache_dir() / "bench" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    if not path.exists():
        found = json.dumps(measure())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found)
    return json.loads(path.read_text())
