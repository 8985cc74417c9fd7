"""The reference of all tables and keys, docs/configuration.md, made from their definitions."""

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tinsmith.pipeline.config.explain import toml_text
from tinsmith.pipeline.config.tables import is_table, lists_of_tables, tables_by_name
from tinsmith.pipeline.config.values import CodeRef


def configuration_markdown() -> str:
    """The reference of all tables and keys, made from the definitions above."""
    parts = [
        "# Configuration",
        "",
        "`tinsmith.toml` has these tables. Paths are relative to the file. A key or a value that",
        "is not listed here is an error. This page is made from `pipeline/config`:",
        "`python -m tinsmith.pipeline.config > docs/configuration.md`.",
    ]
    lists = lists_of_tables()
    for name, table in tables_by_name().items():
        if not name:
            continue
        parts += [
            "",
            f"## [[{name}]]" if name in lists else f"## [{name}]",
            "",
            inspect.cleandoc(table.__doc__ or ""),
            "",
        ]
        parts += ["| key | value | default | meaning |", "|---|---|---|---|"]
        for key, field in table.model_fields.items():
            cells = (f"`{key}`", _allowed_text(field), _default_text(field), field.description)
            parts.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(parts) + "\n"


_TYPE_TEXTS = {int: "whole number", float: "number", str: "text", bool: "true or false"}


def _allowed_text(field: FieldInfo) -> str:
    limits = [_limit_text(item) for item in field.metadata]
    text = _type_text(field.annotation)
    return " ".join([text, *[limit for limit in limits if limit]])


def _limit_text(constraint: Any) -> str:
    words = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
    found = [
        f"{word} {getattr(constraint, name)}"
        for name, word in words
        if getattr(constraint, name, None) is not None
    ]
    return ", ".join(found)


def _type_text(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{toml_text(value)}`" for value in get_args(annotation))
    if get_origin(annotation) is Annotated:
        base, *metadata = get_args(annotation)
        constraints = [
            item for extra in metadata for item in (getattr(extra, "metadata", None) or [extra])
        ]
        limits = [limit for item in constraints if (limit := _limit_text(item))]
        return " ".join([_type_text(base), ", ".join(limits)]).strip()
    if get_origin(annotation) is dict:
        values = get_args(annotation)[1]
        return f"table of {_type_text(values)}" if _is_single(values) else "tables"
    if is_table(annotation):
        return "tables"
    if get_origin(annotation) is list:
        return f"list of {_type_text(get_args(annotation)[0])}"
    members = [member for member in get_args(annotation) if member is not type(None)]
    if members:
        return " or ".join(_type_text(member) for member in members)
    if annotation is Path:
        return "path"
    if annotation is CodeRef:
        return "`file.py:name`"
    return _TYPE_TEXTS[annotation]


def _is_single(annotation: Any) -> bool:
    """Whether a value is one word of the file, not a list or a table."""
    if get_origin(annotation) is Annotated:
        return _is_single(get_args(annotation)[0])
    return all(member in _TYPE_TEXTS for member in get_args(annotation) or (annotation,))


def _default_text(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "must be given"
    if field.default is None or field.default in ({}, ""):
        return "none"
    default = field.default
    return f"`{toml_text(str(default) if isinstance(default, Path) else default)}`"
