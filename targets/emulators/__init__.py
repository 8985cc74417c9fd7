"""Emulators, one protocol: a stream of samples in, a stream of results out."""

from tinsmith.targets.emulators.open import open_runner
from tinsmith.targets.emulators.runner import Block, Count, Result, Runner, Sample

__all__ = ["Block", "Count", "Result", "Runner", "Sample", "open_runner"]
