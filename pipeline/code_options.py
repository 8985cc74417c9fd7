"""What is asked of the generated C, beside the model and the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinsmith.codegen.lower import OBJECTIVES
from tinsmith.pipeline.errors import ConfigError
from tinsmith.targets.target import Target, with_memories

ARENAS = ("static", "caller")


@dataclass(frozen=True)
class CodeOptions:
    """ConfigError for what does not exist.

    objective: one of OBJECTIVES. preserve_inputs: a run leaves the inputs as they are.
    arena: "static" where the model's context holds its arena, "caller" where the firmware hands
    one to init. memories: (memory of the target, the most bytes of it that the model may take);
    0 leaves it out. Targets that lack a memory of that name are not bound by it. choice: (layer,
    kernel) where one is to be taken whatever the objective prefers, as tuning found.
    """

    objective: str = "balanced"
    preserve_inputs: bool = False
    arena: str = "static"
    memories: tuple[tuple[str, int], ...] = ()
    choice: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for flag, value, allowed in (
            ("-O", self.objective, OBJECTIVES),
            ("--arena", self.arena, ARENAS),
        ):
            if value not in allowed:
                raise ConfigError(f"{flag} {value}: does not exist; allowed: {', '.join(allowed)}")

    def limited(self, target: Target) -> Target:
        """The target with what the model may take of its memories."""
        named = {region.name for region in target.regions}
        return with_memories(target, {n: limit for n, limit in self.memories if n in named})


def parse_memories(flags: Sequence[str], target: Target) -> tuple[tuple[str, int], ...]:
    """The limits in flags like `dtcm=65536`; ConfigError for what is no limit of the target's."""
    limits: dict[str, int] = {}
    for flag in flags:
        name, equals, size = flag.partition("=")
        if not (name and equals and size.isascii() and size.isdecimal()):
            raise ConfigError(f"--memory {flag}: allowed: NAME=BYTES, like dtcm=65536")
        limits[name] = int(size)
    with_memories(target, limits)
    return tuple(limits.items())
