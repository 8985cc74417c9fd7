"""Runs a model on this computer."""

import sys

from tinsmith.targets.emulators.child import ChildRunner
from tinsmith.targets.image import Image

# The library serves over file descriptors by itself; Python only loads it.
_LOAD = "import ctypes, sys; sys.exit(ctypes.CDLL(sys.argv[1]).tinsmith_h_serve(0, 1))"


def host_runner(image: Image, *, timeout_seconds: float = 60.0) -> ChildRunner:
    """A runner for a library or a program of this computer."""
    path = str(image.path.resolve())
    shared = image.form == "shared"
    command = (sys.executable, "-S", "-E", "-c", _LOAD, path) if shared else (path,)
    return ChildRunner(image, command, "the host", timeout_seconds=timeout_seconds)
