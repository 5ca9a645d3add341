"""What the command makes of its process before anything else: Ctrl-C, arguments, streams.

Imports take half a second, and an interrupt in the middle of one comes out as whatever the import makes of it. Until a
command has something to lose, Ctrl-C ends the process at once; from :func:`interruptible` on it is a KeyboardInterrupt.
"""

import os
import signal
import sys
from typing import Final, NoReturn

_INTERRUPTED: Final = 130


def end_at_interrupt() -> None:
    """Let Ctrl-C end the process without a word: nothing has begun, or all is done."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a shell's `command &` ignores it
        signal.signal(signal.SIGINT, _end)


def interruptible() -> None:
    """Let Ctrl-C be a KeyboardInterrupt, where what goes on must be left tidily."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> NoReturn:
    os._exit(_INTERRUPTED)


def forgive_streams() -> None:
    """Write what an output cannot encode as Python does, and nothing to an output that is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 -- as long as the process
        else:
            stream.reconfigure(errors="backslashreplace")


def why_no_arguments(words: list[str]) -> str | None:
    """Say which argument is no text: Python lets bytes that are not UTF-8 through as half surrogate pairs."""
    for i, word in enumerate(words, 1):
        try:
            word.encode()
        except UnicodeEncodeError:
            seen = os.fsencode(word).decode(errors="backslashreplace")
            return f"argument {i}: not UTF-8: {seen[:100]}"
    return None
