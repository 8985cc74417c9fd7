"""Emulators, one protocol: a stream of samples in, a stream of results out."""

from tinsmith.targets.emulators.open import open_runner
from tinsmith.targets.emulators.runner import Count, Result, Runner, Sample

__all__ = ["Count", "Result", "Runner", "Sample", "open_runner"]
