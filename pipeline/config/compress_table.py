"""The table of the search for a network that fits: what is searched, and how long."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from tinsmith.pipeline.config.values import Positive, Table


def _to_values(value: Any) -> Any:
    """A list of values as it is, a range as {low, high, log}."""
    if isinstance(value, list) and value and all(_is_plain(item) for item in value):
        return value
    if isinstance(value, dict) and {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
        low, high, log = value["low"], value["high"], value.get("log", False)
        ordered = _is_number(low) and _is_number(high) and low < high
        if ordered and isinstance(log, bool) and (low > 0 or not log):
            return value
    raise PydanticCustomError(
        "searched",
        "must be a list of values, or a range { low = 0.25, high = 1.5 } with low below high, "
        "and log = true for one above 0 that is searched by factors",
    )


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float, str))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


Searched = Annotated[list[Any] | dict[str, Any], BeforeValidator(_to_values)]


class Compress(Table):
    """The search of `tinsmith compress`.

    What is searched: `[compress.search]`, keys of other tables with their values, like
    `distil.width = { low = 0.5, high = 1.5 }` and `prune.macs = [1.0, 0.7, 0.5]`.
    """

    trials: Positive = Field(default=40, description="How many networks are tried.")
    epochs: Positive | None = Field(
        default=None,
        description=(
            "`[distil] epochs` of each trial; the epochs of pruning and of training in integers "
            "shrink by the same factor. By default trials are trained in full."
        ),
    )
    finish: bool = Field(
        default=False,
        description=(
            "Whether the chosen network is trained once more in full, where trials were shorter; "
            "it is taken where it fits and is the better one."
        ),
    )
    validation: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.1,
        description=(
            "Share of the training images that trials are measured on and not trained on, where "
            "`[data] validation` gives none. Test images decide nothing."
        ),
    )
    sampler: Literal["tpe", "nsga2", "random"] = Field(
        default="tpe",
        description=(
            "How the next trial is chosen: `tpe` (Bergstra et al. 2011; Ozaki et al. 2022), "
            "`nsga2` (Deb et al. 2002), `random`."
        ),
    )
    search: dict[str, dict[str, Searched]] = Field(
        default={},
        description=(
            "What is searched: `table.key = [values]` or `table.key = { low = .., high = .. }`, "
            "for keys of `distil`, `prune`, `quantize`, `factorize` and `generate.objective`. By "
            "default the width, where the student takes one, `factorize.ranks` (off, or as it is "
            "set, else automatic), `prune.macs` and `generate.objective`. Few bits are no such "
            "default: firmware holds every weight as a byte."
        ),
    )
