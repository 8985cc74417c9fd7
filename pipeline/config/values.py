"""The types of values that keys take: what is allowed, and what an error says of it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError


class CodeRef(BaseModel):
    """A class or function in a user's Python file: what makes a network, a data set, a loss.

    width: what a network is made with as `width=`, if anything.
    """

    model_config = ConfigDict(frozen=True)

    path: Path
    attribute: str
    width: float | None = None


def _beside_config(path: str, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base", Path())
    return Path(base) / Path(path).expanduser()


def _to_path(value: Any, info: ValidationInfo) -> Path:
    if isinstance(value, Path):  # from Python, not from a file
        return value
    if not isinstance(value, str) or not value:
        raise PydanticCustomError("path", "must be a path in quotes")
    return _beside_config(value, info)


def _to_code_ref(value: Any, info: ValidationInfo) -> CodeRef:
    path, colon, attribute = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not (path.endswith(".py") and colon and attribute.isidentifier()):
        raise PydanticCustomError(
            "model", 'must be a Python file and a name in it, like "models.py:Student"'
        )
    return CodeRef(path=_beside_config(path, info), attribute=attribute)


def _to_sample_count(value: Any) -> Any:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise PydanticCustomError("samples", 'must be "all" or a whole number of at least 1')


def _c_identifier(value: str) -> str:
    if value and not (value.isascii() and value.isidentifier()):
        raise PydanticCustomError(
            "c_name", "must be a C identifier: letters, digits and _, not starting with a digit"
        )
    return value


ConfigPath = Annotated[Path, BeforeValidator(_to_path)]
ConfigCode = Annotated[CodeRef, BeforeValidator(_to_code_ref)]
SampleCount = Annotated[int | Literal["all"], BeforeValidator(_to_sample_count)]
CName = Annotated[str, AfterValidator(_c_identifier)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
CriterionName = Literal["l1", "l2", "gradient", "taylor", "entropy", "apoz", "loss", "random"]
Bytes = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A table of the file: no unknown keys, no conversion of types, never changed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
