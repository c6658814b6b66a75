"""Ctrl-C at any moment of a process: one line, also while Python still imports the rest.

What is imported here is not guarded yet, so it is next to nothing: no typing, no contextlib.
"""

import os
import signal
import sys

INTERRUPTED = 130
AGAIN_S = 0.01
TOO_EARLY = b"\ninterrupted: nothing was begun\n"


def guard() -> None:
    """From now on Ctrl-C ends the process at once; but one that was told to ignore it goes on to do so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave_at_once)


class Interruptible:
    """While it lasts, Ctrl-C raises KeyboardInterrupt, which the command's own end tells in its words.

    Afterwards it just ends the process. In one that was not begun by `main` nothing changes.
    """

    def __enter__(self) -> None:
        self._guarded = signal.getsignal(signal.SIGINT) is _leave_at_once
        if self._guarded:
            sys.unraisablehook = _raise_later
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __exit__(self, *_error: object) -> None:
        if self._guarded:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            sys.unraisablehook = sys.__unraisablehook__


def _leave_at_once(_number: int, _frame: object) -> None:
    os.write(2, TOO_EARLY)
    os._exit(INTERRUPTED)


def _raise_later(lost: "sys.UnraisableHookArgs") -> None:
    """Keep a Ctrl-C that came where nothing can be raised, as in a finalizer: it comes again behind it."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    import threading

    again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))  # here it would be lost once more
    again.daemon = True
    again.start()
