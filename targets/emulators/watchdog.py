"""Ends an emulation that takes too long, from another thread."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_SECONDS = 0.1


class Watchdog:
    """Calls `stop` once a deadline has passed; looks ten times a second.

    unicorn's own timeout starts and joins a thread for every call, which costs more than a small
    model does. The thread here lives as long as `watching`.
    """

    def __init__(self, stop: Callable[[], None], seconds: float) -> None:
        self._stop = stop
        self._seconds = seconds
        self._deadline: float | None = None
        self._lock = threading.Lock()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the thread alive for the calls within."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def wind(self) -> None:
        """A call begins: it has `seconds` from now."""
        with self._lock:
            self._deadline = time.monotonic() + self._seconds

    def rest(self) -> None:
        """The call is over."""
        with self._lock:
            self._deadline = None

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(min(_LOOK_SECONDS, self._seconds)):
            # Under the lock: a stop that comes late must not hit the next call.
            with self._lock:
                if self._deadline is not None and time.monotonic() > self._deadline:
                    self._stop()
