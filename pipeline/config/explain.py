"""What an error of the configuration says: where, what, what is allowed."""

import difflib
from collections.abc import Mapping
from typing import Any

from tinsmith.pipeline.config.tables import keys_of, tables_by_name


def explained(error: Mapping[str, Any]) -> str:
    """One line for one of pydantic's errors: where, what, what is allowed."""
    *tables, key = [str(part) for part in error["loc"] if not _is_union_branch(part)] or [""]
    where = _place(tables, key)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _explain_unknown(tables, key)
    if kind == "missing":
        return f"{where}: is missing"
    allowed = _ALLOWED.get(kind, lambda _: str(error["msg"]))(context)
    return f"{where} = {toml_text(error['input'])}: {allowed}"


# What a value has to be, by pydantic's name of the error.
_ALLOWED: dict[str, Any] = {
    "int_type": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "bool_type": lambda _: "must be true or false",
    "string_type": lambda _: "must be a text in quotes",
    "string_too_short": lambda _: "must not be empty",
    "list_type": lambda _: "must be a list",
    "too_short": lambda _: "must not be empty",
    "dict_type": lambda _: "must be a table",
    "model_type": lambda _: "must be a table",
    "model_attributes_type": lambda _: "must be a table",
    "finite_number": lambda _: "must be a finite number",
    "literal_error": lambda context: f"allowed: {context['expected']}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "greater_than": lambda context: f"must be greater than {context['gt']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "less_than": lambda context: f"must be less than {context['lt']}",
}


def _is_union_branch(part: Any) -> bool:
    """Whether a part of a location names a member of a union or a validator instead of a key."""
    return isinstance(part, str) and ("[" in part or part in ("int", "float", "str"))


def _explain_unknown(tables: list[str], key: str) -> str:
    known = _keys_at(tables)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    what = f"{_place(tables)} has no key '{key}'" if tables else f"there is no table [{key}]"
    owners = [
        name for name, table in tables_by_name().items() if key in keys_of(table) and name != ""
    ]
    if not near and owners:
        hint = f"; it belongs in [{owners[0]}]"
    return f"{what}{hint} (allowed: {', '.join(known)})"


def _place(tables: list[str], key: str = "") -> str:
    """`[table] key`, and `[[table.list]] 2 key` for the second of a list of tables."""
    if not tables:
        return f"[{key}]"
    names, numbers = (
        ".".join(t for t in tables if not t.isdecimal()),
        [*filter(str.isdecimal, tables)],
    )
    text = f"[[{names}]] {int(numbers[0]) + 1}" if numbers else f"[{names}]"
    return f"{text} {key}".rstrip()


def _keys_at(tables: list[str]) -> list[str]:
    names = tables_by_name()
    name = ".".join(t for t in tables if not t.isdecimal())
    if tables[:2] == ["gates", "target"]:
        name = "gates.target.NAME"
    return keys_of(names[name])


def toml_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return f"[{', '.join(toml_text(item) for item in value)}]"
    if isinstance(value, dict):
        return "{ }" if not value else "{ ... }"
    return str(value)
