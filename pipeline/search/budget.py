"""What firmware costs, and the budget that it has to keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tinsmith.pipeline.errors import ConfigError

# The measures of a budget -> what each counts.
MEASURES: Mapping[str, str] = {
    "flash": "code, weights and constants, in bytes",
    "ram": "arena, data and stack, in bytes",
    "instructions": "of one inference",
}
_BYTE_UNITS = {"": 1, "B": 1, "KB": 1000, "KiB": 1024, "MB": 1000**2, "MiB": 1024**2}
_COUNT_UNITS = {"": 1, "k": 1000, "K": 1000, "M": 1000**2, "G": 1000**3}
UNITS: Mapping[str, Mapping[str, int]] = {
    "flash": _BYTE_UNITS,
    "ram": _BYTE_UNITS,
    "instructions": _COUNT_UNITS,
}


@dataclass(frozen=True)
class Costs:
    """What the linked firmware of a network costs; see MEASURES."""

    flash: int
    ram: int
    instructions: int

    def named(self) -> dict[str, int]:
        return asdict(self)

    def at_most(self, other: Costs) -> bool:
        """Whether this costs no more than another in any measure."""
        mine, others = self.named(), other.named()
        return all(mine[name] <= others[name] for name in MEASURES)


@dataclass(frozen=True)
class Budget:
    """The most of each measure, None where there is no limit; and of what accuracy may drop.

    max_drop: points of accuracy that the network may lose to its teacher.
    """

    flash: int | None = None
    ram: int | None = None
    instructions: int | None = None
    max_drop: float | None = None

    def limits(self) -> dict[str, int]:
        """The measures that have a limit."""
        values = {name: getattr(self, name) for name in MEASURES}
        return {name: limit for name, limit in values.items() if limit is not None}

    def excess(self, costs: Costs) -> dict[str, int]:
        """By how much each measure is over its limit; only those that are."""
        spent = costs.named()
        over = {name: spent[name] - limit for name, limit in self.limits().items()}
        return {name: by for name, by in over.items() if by > 0}

    def violation(self, costs: Costs) -> float:
        """The sum of what is over, as shares of the limits; 0 where the costs are within."""
        limits = self.limits()
        return sum(by / limits[name] for name, by in self.excess(costs).items())

    def text(self) -> str:
        return ", ".join(f"{name} {limit:,}" for name, limit in self.limits().items()) or "none"


def parse_budget(text: str | None, max_drop: float | None = None) -> Budget:
    """A budget like `flash=64KiB,ram=32KiB,instructions=5M`. Raises ConfigError."""
    limits: dict[str, int] = {}
    for part in (text or "").split(",") if text is not None else ():
        name, equals, amount = (word.strip() for word in part.partition("="))
        if name not in MEASURES or not equals:
            allowed = "; ".join(f"{known}, {what}" for known, what in MEASURES.items())
            raise ConfigError(
                f"--budget {text}: '{part.strip()}' is no limit; allowed, with commas between: "
                f"NAME=AMOUNT, where NAME is one of: {allowed}"
            )
        if name in limits:
            raise ConfigError(f"--budget {text}: {name} is limited twice")
        limits[name] = _amount(name, amount, f"--budget {text}")
    if max_drop is not None and not 0 <= max_drop <= 100:
        raise ConfigError(f"--max-drop {max_drop:g}: allowed: 0 to 100 points of accuracy")
    return Budget(**limits, max_drop=max_drop)


def _amount(name: str, amount: str, where: str) -> int:
    units = UNITS[name]
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", amount, re.ASCII)
    if match is None or match[2] not in units:
        allowed = ", ".join(unit for unit in units if unit)
        raise ConfigError(
            f"{where}: {name}={amount}: needed: a number and a unit, one of {allowed}, or none, "
            f"like {'5M' if units is _COUNT_UNITS else '64KiB'}"
        )
    value = int(float(match[1]) * units[match[2]])
    if value < 1:
        raise ConfigError(f"{where}: {name}={amount}: must be at least 1")
    return value
