"""Single files, written whole or not at all."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

from tinsmith.pipeline.errors import ToolFailed


def write_whole(path: Path, data: bytes) -> None:
    """A file with all its bytes, or as it was before. ToolFailed where it can't be written."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as e:
        what = "the disk is full" if e.errno == errno.ENOSPC else str(e.strerror)
        raise ToolFailed(f"can't write '{path}': {what}") from e


def write_json(path: Path, data: Any) -> None:
    """A report as JSON."""
    write_whole(path, (json.dumps(data, indent=2) + "\n").encode())
