"""Folders of generated files: written whole, and never over what tinsmith did not make."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tinsmith.pipeline.errors import ConfigError, ToolFailed

MANIFEST = ".tinsmith.json"


def write_folder(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Puts the files into `folder`, replacing an earlier output of tinsmith as a whole.

    Raises ConfigError where the folder holds something else, ToolFailed where it can't be written
    (a full disk); then the folder is as it was.
    """
    check_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as e:
        raise ToolFailed(f"can't write beside '{folder}': {e.strerror}") from e
    try:
        for name, content in files.items():
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        (staged / MANIFEST).write_text(json.dumps({"files": sorted(files)}, indent=1) + "\n")
        staged.chmod(0o755)
        _swap(staged, folder)
    except OSError as e:
        what = "the disk is full" if e.errno == errno.ENOSPC else str(e.strerror)
        raise ToolFailed(
            f"can't write '{folder}': {what}. Nothing was changed; free some space and try again"
        ) from e
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def check_folder(folder: Path) -> None:
    """ConfigError where `folder` can't be, or holds anything that tinsmith did not write there."""
    _check_parent(folder)
    if not os.path.exists(folder):
        return
    if not folder.is_dir():
        raise ConfigError(f"'{folder}' is a file; name a new or empty folder with -o")
    present = [p for p in folder.rglob("*") if not p.is_dir()]
    if not present:
        return
    known: set[str] = set()
    manifest = folder / MANIFEST
    if manifest.is_file():
        try:
            known = {MANIFEST, *json.loads(manifest.read_text())["files"]}
        except (ValueError, KeyError, TypeError) as e:
            raise ConfigError(
                f"'{manifest}' is damaged; remove the folder '{folder}' or name another with -o"
            ) from e
    strange = sorted(str(p.relative_to(folder)) for p in present)
    strange = [p for p in strange if p not in known]
    if strange:
        raise ConfigError(
            f"the folder '{folder}' holds files that tinsmith did not write: "
            f"{', '.join(strange[:5])}{' ...' if len(strange) > 5 else ''}; "
            "name a new or empty folder with -o"
        )


def _check_parent(folder: Path) -> None:
    """ConfigError where what the folder would lie in is a file or may not be written to."""
    parent = folder.absolute().parent
    while not os.path.exists(parent):
        parent = parent.parent
    if not parent.is_dir():
        raise ConfigError(
            f"'{folder}' can't be a folder: '{parent}' is a file; name another with -o"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ConfigError(f"'{parent}' may not be written to; name a folder elsewhere with -o")


def _swap(staged: Path, folder: Path) -> None:
    if not folder.exists():
        os.rename(staged, folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    os.rename(folder, aside / "old")
    try:
        os.rename(staged, folder)
    except BaseException:  # an interrupt too: never neither of the two
        os.rename(aside / "old", folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
