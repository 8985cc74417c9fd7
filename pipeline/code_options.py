"""What is asked of the generated C, beside the model and the target."""

from __future__ import annotations

from dataclasses import dataclass

from tinsmith.codegen.lower import OBJECTIVES
from tinsmith.pipeline.errors import ConfigError

ARENAS = ("static", "caller")


@dataclass(frozen=True)
class CodeOptions:
    """ConfigError for what does not exist.

    objective: one of OBJECTIVES. preserve_inputs: a run leaves the inputs as they are.
    arena: "static" where the model's context holds its arena, "caller" where the firmware hands
    one to init.
    """

    objective: str = "balanced"
    preserve_inputs: bool = False
    arena: str = "static"

    def __post_init__(self) -> None:
        for flag, value, allowed in (
            ("-O", self.objective, OBJECTIVES),
            ("--arena", self.arena, ARENAS),
        ):
            if value not in allowed:
                raise ConfigError(f"{flag} {value}: does not exist; allowed: {', '.join(allowed)}")
