"""Ctrl-C and a batch system's SIGTERM stop a sweep: it cleans up undisturbed, and exits with 128 + the signal.

In: the program as a function, or a part of it that must finish. Out: an exit status. While workers are
ended, further signals are ignored: every such part is bounded by scaling.engine.ray_session.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = 128 + signal.SIGINT
REPEAT_SECONDS = 5.0  # a KeyboardInterrupt raised in a garbage collector's callback is lost, and SIGTERM comes once


def until_stopped(program: Callable[[], int]) -> int:
    """Run the program; returns its status, or 128 + the first signal if it was interrupted."""
    received: list[int] = []
    ended = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if not received and number == signal.SIGTERM:
            threading.Thread(target=_repeat, args=(number, ended), daemon=True).start()
        received.append(number)
        raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        status = program()
    except KeyboardInterrupt:  # a second one, while the first was being handled
        status = INTERRUPTED
    finally:
        ended.set()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # only the interpreter's shutdown is left
    return 128 + received[0] if received and status == INTERRUPTED else status


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore the signals inside this context."""
    with _restoring_handlers() as are_ours:
        for number in SIGNALS if are_ours else ():
            signal.signal(number, signal.SIG_IGN)
        yield


@contextlib.contextmanager
def keeping_handlers() -> Iterator[None]:
    """Restore our handlers after a library's: Ray's for SIGTERM exits by SystemExit, later by an abort."""
    try:
        with _restoring_handlers() as are_ours:
            yield
    except SystemExit:
        if are_ours:
            signal.raise_signal(signal.SIGTERM)
        raise


@contextlib.contextmanager
def _restoring_handlers() -> Iterator[bool]:
    """Whether this is the main thread, where signals arrive; if it is, their handlers are set again afterwards."""
    is_main = threading.current_thread() is threading.main_thread()
    before = [(number, signal.getsignal(number) or signal.SIG_DFL) for number in SIGNALS if is_main]
    try:
        yield is_main
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _repeat(number: int, ended: threading.Event) -> None:
    while not ended.wait(REPEAT_SECONDS):
        os.kill(os.getpid(), number)
