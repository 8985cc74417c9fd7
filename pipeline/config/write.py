"""A configuration as the text of a file that `load_config` reads."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tinsmith.pipeline.config.tables import Config
from tinsmith.pipeline.config.values import CodeRef, Table


def config_text(config: Config, folder: Path) -> str:
    """The text of a `tinsmith.toml` in a folder: what differs from the defaults, and [run] out."""
    blocks = []
    for name, field in Config.model_fields.items():
        table: BaseModel = getattr(config, name)
        head = field.alias or name
        lines, after = [], []
        for key, value in _told(table):
            if isinstance(value, list) and value and isinstance(value[0], Table):
                after += [_block(f"[[{head}.{key}]]", item, folder) for item in value]
            else:
                lines.append(f"{key} = {_value(value, folder)}")
        if lines:
            blocks.append("\n".join([f"[{head}]", *lines]) + "\n")
        blocks += after
    return "\n".join(blocks)


def _block(head: str, table: BaseModel, folder: Path) -> str:
    lines = [f"{key} = {_value(value, folder)}" for key, value in _told(table)]
    return "\n".join([head, *lines]) + "\n"


def _told(table: BaseModel) -> Iterator[tuple[str, Any]]:
    """The keys and values that aren't what they are by default."""
    for key, field in type(table).model_fields.items():
        value = getattr(table, key)
        if value is not None and (value != field.default or isinstance(value, Path)):
            yield field.alias or key, value


def _value(value: Any, folder: Path) -> str:
    if isinstance(value, CodeRef):
        return _quoted(f"{_relative(value.path, folder)}:{value.attribute}")
    if isinstance(value, Path):
        return _quoted(_relative(value, folder))
    if isinstance(value, BaseModel):
        return _value(dict(_told(value)), folder)
    if isinstance(value, dict):
        items = (f"{_key(key)} = {_value(item, folder)}" for key, item in value.items())
        return "{ " + ", ".join(items) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item, folder) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _quoted(value) if isinstance(value, str) else repr(value)


def _key(key: str) -> str:
    plain = key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key)
    return key if plain else _quoted(key)


def _quoted(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON but for the one of DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
