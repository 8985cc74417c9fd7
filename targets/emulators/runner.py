"""The protocol that every emulator and board follows: a stream of samples in, results out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

from tinsmith.pipeline.errors import DataError
from tinsmith.targets.harness import ModelInterface

Sample = tuple[bytes, ...]
Count = Literal["first", "all", "none"]


@dataclass(frozen=True)
class Result:
    """What one run gave.

    outputs: the bytes of each output. instructions: executed from entry to return of <name>_run.
    stack_bytes: the deepest stack below the call. Both are None where they were not counted.
    trace: what the model handed to tinsmith_trace, as (step, bytes), in order. trace_instructions:
    executed from entry to each of these calls, where they were counted.
    """

    outputs: tuple[bytes, ...]
    instructions: int | None = None
    stack_bytes: int | None = None
    trace: tuple[tuple[int, bytes], ...] = ()
    trace_instructions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Block:
    """A stretch of code that was entered `entries` times, and left by a branch `taken` times."""

    address: int
    size: int
    entries: int
    taken: int


class Runner(Protocol):
    """A device that is ready to run one model. Use it in a `with`, or call close().

    `blocks` are those of the last sample that was counted; none where nothing is emulated.
    """

    @property
    def blocks(self) -> tuple[Block, ...]: ...

    def run(
        self,
        samples: Iterable[Sample],
        *,
        reset_each: bool = True,
        count: Count = "first",
        check_alignment: bool = False,
    ) -> Iterator[Result]:
        """Run the samples in order, each the bytes of every input, and yield a Result for each.

        reset_each: call <name>_reset before every sample; otherwise once, before the first.
        count: for which samples instructions and stack are measured.
        check_alignment: watch every access of the first sample, where the device is emulated.
        Raises DataError for a sample of the wrong size, DeviceSilent where the device fails; the
        runner can be used again after either.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def check_sample(interface: ModelInterface, sample: Sample, index: int) -> None:
    """Raises DataError unless the sample has the bytes of each input."""
    sizes = tuple(len(data) for data in sample)
    if sizes != interface.inputs:
        raise DataError(
            f"sample {index} for model '{interface.name}' has inputs of {sizes} bytes; "
            f"the model takes {interface.inputs}"
        )
