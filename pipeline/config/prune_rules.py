"""What goes with what in [prune]: each scope has its criteria, allocations, schedules and keys."""

from collections.abc import Mapping
from dataclasses import dataclass

from tinsmith.pipeline.config.training_tables import Prune
from tinsmith.pipeline.errors import ConfigError

_ANY = ("epochs", "batch", "learning_rate", "scope", "schedule", "allocation", "criterion")
_STEPS = ("steps", "step_epochs", "measured_on", "folds")
_MASKED = ("l1", "l2", "gradient", "taylor", "random")


@dataclass(frozen=True)
class Rules:
    """What a scope allows; keys: beside those of every scope."""

    criteria: tuple[str, ...]
    allocations: tuple[str, ...]
    schedules: tuple[str, ...]
    keys: tuple[str, ...]


SCOPES: Mapping[str, Rules] = {
    "channels": Rules(
        ("l1", "l2", "gradient", "taylor", "entropy", "apoz", "loss", "random"),
        ("budget", "global", "uniform", "sensitivity"),
        ("steps", "gradual", "rewind"),
        ("macs", "multiple_of", *_STEPS),
    ),
    "hidden": Rules(
        ("l1", "l2", "gradient", "taylor", "entropy", "loss", "random"),
        ("budget", "global", "uniform", "sensitivity"),
        ("steps", "gradual", "rewind"),
        ("macs", "multiple_of", *_STEPS),
    ),
    "layers": Rules(
        ("loss", "random"),
        ("budget", "global"),
        ("steps", "gradual", "rewind"),
        ("macs", *_STEPS),
    ),
    "weights": Rules(
        _MASKED,
        ("budget", "global", "uniform"),
        ("steps", "gradual", "rewind", "movement"),
        ("density", *_STEPS),
    ),
    "blocks": Rules(
        _MASKED,
        ("budget", "global", "uniform"),
        ("steps", "gradual", "rewind", "movement"),
        ("density", "block", "of", *_STEPS),
    ),
}


def check_prune(options: Prune, where: str) -> None:
    """Raise ConfigError for what doesn't go together."""
    rules, scope = SCOPES[options.scope], f'scope = "{options.scope}"'
    for key, value, allowed in (
        ("criterion", options.criterion, rules.criteria),
        ("allocation", options.allocation, rules.allocations),
        ("schedule", options.schedule, rules.schedules),
    ):
        if value not in allowed:
            raise ConfigError(
                f'{where} {key}: {scope} can\'t take "{value}"; allowed: {", ".join(allowed)}'
            )
    keys = [*_ANY, *rules.keys]
    if options.schedule == "rewind":
        keys.append("rewind_epoch")
    for key in sorted(options.model_fields_set - set(keys)):
        raise ConfigError(
            f'{where} {key}: {scope} with schedule = "{options.schedule}" has no such key; '
            f"allowed: {', '.join(keys)}"
        )
    if options.scope in ("weights", "blocks"):
        _check_masks(options, where)


def has_one_training(options: Prune) -> bool:
    """Whether weights go within one training of `epochs`, instead of in steps."""
    masked = options.scope in ("weights", "blocks")
    return masked and options.schedule in ("gradual", "movement")


def _check_masks(options: Prune, where: str) -> None:
    if options.schedule == "movement" and "criterion" in options.model_fields_set:
        raise ConfigError(
            f'{where} criterion: schedule = "movement" is a criterion of its own; leave it out'
        )
    if options.schedule == "gradual" and options.criterion not in ("l1", "l2"):
        raise ConfigError(
            f'{where} criterion: schedule = "gradual" goes by magnitudes; "{options.criterion}" '
            "is allowed with the schedules steps, rewind"
        )
    if options.schedule == "gradual" and options.allocation == "global":
        raise ConfigError(
            f'{where} allocation: schedule = "gradual" can\'t take "global"; allowed: budget, '
            "uniform"
        )
    if has_one_training(options) and (unused := sorted(options.model_fields_set & set(_STEPS))):
        raise ConfigError(
            f'{where} {unused[0]}: schedule = "{options.schedule}" is one training of `epochs`; '
            "leave it out"
        )
    if options.of and options.allocation != "uniform":
        raise ConfigError(
            f"{where} allocation: with `of` every group keeps the same number of blocks; it has to "
            'be "uniform"'
        )
