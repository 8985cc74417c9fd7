"""What is searched: keys of the configuration, each with the values that it may have."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from tinsmith.pipeline.config import Config
from tinsmith.pipeline.config.explain import explained
from tinsmith.pipeline.errors import ConfigError

Value = bool | int | float | str
# A place in the space: the value of each knob by its name.
Place = Mapping[str, Value]

# The tables whose keys can be searched; None: all of its keys that are a single value.
_TABLES: Mapping[str, tuple[str, ...] | None] = {
    "distil": None,
    "prune": None,
    "factorize": None,
    "quantize": None,
    "generate": ("objective",),
}
_LISTED = 10_000  # places of a space that are all looked at
WIDTH = "distil.width"
DEFAULT_WIDTHS = {"low": 0.5, "high": 1.5}
# What is searched beside the width where [compress.search] is empty.
DEFAULTS: Mapping[str, Sequence[Value]] = {
    "prune.macs": (1.0, 0.75, 0.5),
    "factorize.ranks": ("off", "automatic"),
    "generate.objective": ("balanced", "size", "ram"),
}


@dataclass(frozen=True)
class Knob:
    """A key `table.key` of the configuration: one of `values`, or between low and high.

    log: a range is searched by factors, not by differences. whole: of whole numbers only.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def at(self, share: float) -> Value:
        """The value at a share 0 <= share < 1 of the way through the knob."""
        if self.values:
            return self.values[int(share * len(self.values))]
        if self.whole:
            return int(self.low + share * (self.high + 1 - self.low))
        if self.log:
            return rounded(self.low * math.exp(share * math.log(self.high / self.low)))
        return rounded(self.low + share * (self.high - self.low))

    def all(self) -> tuple[Value, ...] | None:
        """All values, None where they are without number."""
        if self.values or not self.whole:
            return self.values or None
        return tuple(range(int(self.low), int(self.high) + 1))

    def ends(self) -> tuple[Value, ...]:
        """All values, or the ends of the range."""
        return self.values or (self.low, self.high)


def rounded(value: float) -> float:
    """A value of a range as it is used: what is written down is what was tried."""
    return round(value, 3)


def knobs_of(config: Config, takes_width: bool) -> tuple[Knob, ...]:
    """The knobs that a configuration asks for, by name. Raises ConfigError for a key that does not
    exist or can't be searched, and for a value that it does not allow.

    takes_width: whether the student is made with a width.
    """
    asked = {
        f"{table}.{key}": values
        for table, keys in config.compress.search.items()
        for key, values in _keys_of(table, keys).items()
    }
    if not asked:
        asked = {name: list(values) for name, values in DEFAULTS.items()}
        if (ranks := config.factorize.ranks) != "off":
            asked["factorize.ranks"] = ["off", ranks]
        if config.prune.scope in ("weights", "blocks"):  # which have no macs
            del asked["prune.macs"]
        if takes_width:
            asked[WIDTH] = dict(DEFAULT_WIDTHS)
    if WIDTH in asked and not takes_width:
        model = config.distil.model
        raise ConfigError(
            f"[compress.search] {WIDTH}: '{model.path}:{model.attribute}' takes no width; give it "
            "an argument `width` that multiplies its numbers of channels"
        )
    return tuple(_knob(config, name, asked[name]) for name in sorted(asked))


def _keys_of(table: str, keys: Mapping[str, Any]) -> Mapping[str, Any]:
    if table not in _TABLES or table not in Config.model_fields:
        allowed = ", ".join(name for name in _TABLES if name in Config.model_fields)
        raise ConfigError(
            f"[compress.search] {table}: keys of this table can't be searched; allowed: {allowed}"
        )
    return keys


def _knob(config: Config, name: str, values: Any) -> Knob:
    """A knob each of whose values is allowed."""
    if not isinstance(values, Mapping):
        knob = Knob(name, tuple(dict.fromkeys(values)))
    else:
        knob = Knob(name, (), values["low"], values["high"], values.get("log", False))
    for value in knob.ends():
        at_place(config, {name: value})
    if not knob.values:
        try:
            at_place(config, {name: float(knob.low) + 0.5 * min(knob.high - knob.low, 1)})
        except ConfigError:
            return replace(knob, whole=True)
    return knob


def untried(
    knobs: Sequence[Knob], tried: Sequence[Place], rng: np.random.Generator
) -> Place | None:
    """A place that was not tried yet, drawn at random; None where there is none."""
    values = [knob.all() for knob in knobs]
    sizes = [len(known) for known in values if known is not None]
    if len(sizes) == len(knobs) and math.prod(sizes) <= _LISTED:
        names = [knob.name for knob in knobs]
        places = (
            dict(zip(names, place, strict=True))
            for place in itertools.product(*(known or () for known in values))
        )
        left = [place for place in places if place not in tried]
        return left[int(rng.integers(len(left)))] if left else None
    while True:
        place = {knob.name: knob.at(float(rng.random())) for knob in knobs}
        if place not in tried:
            return place


def at_place(config: Config, place: Place) -> Config:
    """The configuration with the values of a place. Raises ConfigError for what isn't allowed."""
    tables: dict[str, dict[str, Value]] = {}
    for name, value in place.items():
        table, _, key = name.partition(".")
        tables.setdefault(table, {})[key] = value
    changed = {table: _changed(config, table, values) for table, values in tables.items()}
    return config.model_copy(update=changed)


def _changed(config: Config, table: str, values: Mapping[str, Value]) -> BaseModel:
    """A table with other values, checked as the file is."""
    old: BaseModel = getattr(config, table)
    known = type(old).model_fields
    searchable = _TABLES[table] or tuple(
        key for key in known if not isinstance(getattr(old, key), (list, dict, BaseModel))
    )
    for key in values:
        if key not in searchable:
            near = difflib.get_close_matches(key, searchable, n=1, cutoff=0.6)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"[compress.search] {table}.{key}: can't be searched{hint} "
                f"(allowed: {', '.join(searchable)})"
            )
    return old.model_copy(
        update={key: _checked(table, key, known[key], value) for key, value in values.items()}
    )


def _checked(table: str, key: str, field: FieldInfo, value: Value) -> Value:
    """The value of a key, checked as the file is."""
    form: Any = Annotated[field.annotation, field]
    adapter: TypeAdapter[Value] = TypeAdapter(form)
    try:
        return adapter.validate_python(value, strict=True)
    except ValidationError as e:
        errors = [{**error, "loc": (table, key, *error["loc"])} for error in e.errors()]
        lines = "; ".join(dict.fromkeys(explained(error) for error in errors))
        raise ConfigError(f"[compress.search] {lines}") from e
