"""Answer to Ctrl-C, SIGTERM and SIGHUP (a closed terminal), also while a library's call runs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

EXIT_CODE = 130
_PATIENCE_S = 5.0
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PROBE = signal.SIGURG  # nobody sends it; without a handler it does nothing

_repeated = 0


def answer_interrupts() -> None:
    """Makes SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does. For the main thread. SIGHUP stays ignored in a
    program that nohup has started, and Ctrl-C in one that a script has started in its background.

    An interrupt that comes while the first one ends the program raises nothing, so that nothing is left half done:
    ``repeated_interrupts`` counts it. Python runs the handler of a signal between two of its own instructions, so a
    step of TensorFlow or a conversion, which may take minutes, would delay it. If no handler can run for
    ``_PATIENCE_S`` after an interrupt, the process ends at once with code 130; what it has begun to write beside its
    targets is removed by the next run.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    runs = threading.Event()
    signal.signal(_PROBE, lambda number, frame: runs.set())
    for number in _INTERRUPTS:
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _answer)
    main = threading.get_ident()
    threading.Thread(target=_guard, args=(reader, main, runs), name="interrupts", daemon=True).start()


def repeated_interrupts() -> int:
    """Number of interrupts that came after the one that ends the program: the user is in a hurry."""
    return _repeated


def interrupt_program() -> None:
    """Does what Ctrl-C would do now: the program is to end."""
    number = next((item for item in _INTERRUPTS if callable(signal.getsignal(item))), None)
    if number is None:
        raise KeyboardInterrupt
    signal.raise_signal(number)


def ignore_interrupts() -> None:
    """For the last moments of a program, when there is nothing left to stop."""
    if threading.current_thread() is threading.main_thread():
        for number in _INTERRUPTS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Delays interrupts until the block is left: they would leave undone what belongs together."""
    if threading.current_thread() is not threading.main_thread():  # handlers run only in the main thread
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _INTERRUPTS}
    called = {number: handler for number, handler in handlers.items() if callable(handler)}
    arrived: list[int] = []
    try:
        for number in called:
            signal.signal(number, lambda received, _: arrived.append(received))
        yield
    finally:
        for number, handler in called.items():
            signal.signal(number, handler)
        for received in arrived:
            called[signal.Signals(received)](received, None)


def _answer(number: int, frame: object) -> None:
    global _repeated
    error = sys.exc_info()[1]
    while error is not None:  # the one that is handled, and those that it replaced
        if isinstance(error, KeyboardInterrupt):
            _repeated += 1
            return
        error = error.__context__
    _repeated = 0
    raise KeyboardInterrupt


def _guard(reader: int, main: int, runs: threading.Event) -> None:
    """Ends the process if the thread ``main`` can't run handlers after an interrupt. ``reader`` brings the numbers of
    signals; the handler of the probe sets ``runs``."""
    while number := os.read(reader, 1):
        if number[0] not in _INTERRUPTS:
            continue
        runs.clear()
        signal.pthread_kill(main, _PROBE)
        if not runs.wait(_PATIENCE_S):
            print("interrupted inside a library's call", file=sys.stderr, flush=True)
            os._exit(EXIT_CODE)
