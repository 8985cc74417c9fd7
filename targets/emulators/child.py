"""Talks to a model in a child process over its standard input and output.

A crash there is an error here, no more. The protocol stands in harness_host.c.
"""

import contextlib
import os
import select
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import IO, NoReturn, Self

from tinsmith.pipeline.errors import DeviceSilent, ToolFailed
from tinsmith.targets.emulators.runner import Block, Count, Result, Sample, check_sample
from tinsmith.targets.image import Image

_TRACE, _DONE, _CANARY, _FAULT = 1, 2, 3, 4
_REPORT_LINES = 12
_GRACE_SECONDS = 1.0


# What the three words of a processor's fault mean, for a message.
DescribeFault = Callable[[tuple[int, int, int]], str]


class ChildRunner:
    """See Runner. Instructions and stack are not counted.

    command: starts the program. place: where it runs, for messages. describe_fault: of a processor
    that reports its faults.
    """

    blocks: tuple[Block, ...] = ()

    def __init__(
        self,
        image: Image,
        command: tuple[str, ...],
        place: str,
        *,
        timeout_seconds: float = 60.0,
        describe_fault: DescribeFault = str,
    ) -> None:
        self._image = image
        self._command = command
        self._place = place
        self._timeout_seconds = timeout_seconds
        self._describe_fault = describe_fault
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (close() does)
        self._buffer = bytearray()

    def run(
        self,
        samples: Iterable[Sample],
        *,
        reset_each: bool = True,
        count: Count = "first",
        check_alignment: bool = False,
    ) -> Iterator[Result]:
        for index, sample in enumerate(samples):
            check_sample(self._image.interface, sample, index)
            if self._process is None:
                self._process = self._start()
            flags = 1 if reset_each or index == 0 else 0
            self._deadline = time.monotonic() + self._timeout_seconds
            self._send(struct.pack("=I", flags) + b"".join(sample), index)
            yield self._result(index)

    def close(self) -> None:
        if self._process is not None:
            self._kill()
        self._stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self._stderr.seek(0)
        self._stderr.truncate()
        self._buffer.clear()
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
            )
        except OSError as e:
            raise ToolFailed(f"{self._command[0]} could not be started: {e}") from e
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        self._can_write, self._can_read = select.poll(), select.poll()
        self._can_write.register(process.stdin.fileno(), select.POLLOUT)
        self._can_read.register(process.stdout.fileno(), select.POLLIN)
        return process

    def _send(self, request: bytes, index: int) -> None:
        """A program that stopped reading must not hold us: a pipe takes some KB only."""
        assert self._process is not None
        assert self._process.stdin is not None
        fd = self._process.stdin.fileno()
        rest = memoryview(request)
        while rest:
            self._wait(self._can_write, index)
            try:
                rest = rest[os.write(fd, rest) :]
            except BrokenPipeError:
                self._fail(index)

    def _wait(self, poll: select.poll, index: int) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            self._kill()
            raise DeviceSilent(
                f"{self._name}, sample {index}: no answer within {self._timeout_seconds:g} seconds"
            )

    def _result(self, index: int) -> Result:
        trace: list[tuple[int, bytes]] = []
        while True:
            (kind,) = struct.unpack("=I", self._receive(4, index))
            if kind == _TRACE:
                step, size = struct.unpack("=iI", self._receive(8, index))
                trace.append((step, self._receive(size, index)))
            elif kind == _CANARY:
                (before,) = struct.unpack("=I", self._receive(4, index))
                self._kill()
                raise DeviceSilent(
                    f"{self._name}, sample {index}: a byte {before} bytes before the context "
                    "was overwritten"
                )
            elif kind == _FAULT:
                words = struct.unpack("=III", self._receive(12, index))
                self._kill()
                raise DeviceSilent(f"{self._name}, sample {index}: {self._describe_fault(words)}")
            elif kind == _DONE:
                (status,) = struct.unpack("=i", self._receive(4, index))
                sizes = self._image.interface.outputs
                outputs = tuple(self._receive(size, index) for size in sizes)
                if status != 0:
                    raise DeviceSilent(f"{self._name}, sample {index}: run returned {status}")
                return Result(outputs, trace=tuple(trace))
            else:
                self._kill()
                raise DeviceSilent(f"{self._name}, sample {index}: the reply is not readable")

    def _receive(self, size: int, index: int) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while len(self._buffer) < size:
            self._wait(self._can_read, index)
            data = os.read(fd, 1 << 16)
            if not data:
                self._fail(index)
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    @property
    def _name(self) -> str:
        return f"model '{self._image.interface.name}' on {self._place}"

    def _kill(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was not sent yet went with the process
        process.wait()

    def _fail(self, index: int) -> NoReturn:
        """The child ended: say how, with what it printed (a sanitizer's report)."""
        process = self._process
        assert process is not None
        # What closed its pipes and stays is ended with them.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_SECONDS)
        self._kill()
        code = process.returncode
        self._stderr.seek(0)
        printed = self._stderr.read().decode(errors="replace").strip().splitlines()
        how = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        detail = "".join(f"\n  {line}" for line in printed[:_REPORT_LINES])
        raise DeviceSilent(f"{self._name}, sample {index}: the program {how}{detail}")
