"""Answer to Ctrl-C and SIGTERM, also while a library's call runs."""

from __future__ import annotations

import os
import signal
import sys
import threading

EXIT_CODE = 130
_PATIENCE_S = 5.0
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_PROBE = signal.SIGURG  # nobody sends it; without a handler it does nothing


def answer_interrupts() -> None:
    """Makes SIGTERM raise KeyboardInterrupt as Ctrl-C does. For the main thread.

    Python runs the handler of a signal between two of its own instructions, so a step of TensorFlow or a conversion,
    which may take minutes, would delay it. If no handler can run for ``_PATIENCE_S`` after an interrupt, the process
    ends at once with code 130; what it has begun to write beside its targets is removed by the next run.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    runs = threading.Event()
    signal.signal(_PROBE, lambda number, frame: runs.set())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main = threading.get_ident()
    threading.Thread(target=_guard, args=(reader, main, runs), name="interrupts", daemon=True).start()


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
