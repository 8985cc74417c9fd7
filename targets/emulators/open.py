"""The choice of the emulator that runs an image."""

from tinsmith.pipeline.errors import ConfigError, ToolMissing
from tinsmith.targets.emulators.host import host_runner
from tinsmith.targets.emulators.qemu import qemu_runner
from tinsmith.targets.emulators.runner import Runner
from tinsmith.targets.image import Image
from tinsmith.targets.target import Target


def open_runner(
    image: Image, target: Target | None = None, *, timeout_seconds: float = 60.0
) -> Runner:
    """A runner for an image, on the target that it was built for or on another of its kind.

    `timeout_seconds` is the longest that one sample may take. Raises ToolMissing where the emulator
    is not installed, ConfigError where the image can't run on the target.
    """
    target = image.target if target is None else target
    if target.kind != image.target.kind:
        raise ConfigError(
            f"an image for {image.target.name} ({image.target.kind}) does not run on "
            f"{target.name} ({target.kind})"
        )
    if image.form == "semihosted":
        if target.cpu != image.target.cpu:
            raise ConfigError(
                f"an image for QEMU's {image.target.cpu} does not run on {target.name} "
                f"({target.cpu}): their memories differ"
            )
        return qemu_runner(image, timeout_seconds=timeout_seconds)
    if image.form == "elf":
        # Here, and not above: what needs no emulator works without unicorn.
        try:
            from tinsmith.targets.emulators.unicorn import UnicornRunner
        except ImportError as e:
            raise ToolMissing(
                f"unicorn, which emulates {target.name}, can't be loaded ({e}). "
                "Install it with: pip install unicorn==2.1.4 capstone"
            ) from e
        return UnicornRunner(image, target, timeout_seconds=timeout_seconds)
    return host_runner(image, timeout_seconds=timeout_seconds)
