"""The screen for a person at a terminal: the log scrolls by above one line that says where the job is.

The line is written over in place: cleared before anything else is written, drawn again after. It waits while the log
stands in the middle of a line, so that it never breaks one in two.
"""

import sys
import threading
import time
from typing import Any, Self

from rich.console import Console
from rich.text import Text

from dispatcher.cli import words
from dispatcher.cli.output import LogOutput, set_off
from dispatcher.events import Ended, JobUpdate, LogChunk, LogGap, Silence, StatusChanged
from dispatcher.plain_text import visible
from dispatcher.status import Status
from dispatcher.steps import Submitted

_CLEAR = "\r\x1b[2K"
_REDRAW_S = 0.1
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_STYLE = {
    Status.QUEUED: "yellow",
    Status.STARTING: "cyan",
    Status.RUNNING: "blue",
    Status.SUCCEEDED: "bold green",
    Status.FAILED: "bold red",
    Status.CANCELLED: "bold magenta",
}


def _style(status: Status) -> str:
    """Choose the style of a status, plain for one that only a newer version knows."""
    return _STYLE.get(status, "bold")


class ProgressScreen:
    """Shows a job with a line of progress. Use as a context manager.

    It draws from a thread of its own, as the reader blocks; one lock guards the terminal.
    """

    def __init__(self, log: LogOutput) -> None:
        self._log = log
        self._console = Console(stderr=True, highlight=False)
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._drawer = threading.Thread(target=self._draw_until_done, name="progress", daemon=True)
        self._now = StatusChanged(status=Status.QUEUED)
        self._began = time.monotonic()
        self._is_drawn = False
        self._mid_line = False
        self._shares_terminal = sys.stdout.isatty()

    def __enter__(self) -> Self:
        self._drawer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._drawer.join()
        with self._lock:
            self._clear()
            self._log.end()
            self._end_line()

    def submitted(self, found: Submitted, queue: str) -> None:
        self.say(words.submitted(found, queue))

    def show(self, update: JobUpdate) -> None:
        event = update.event
        if isinstance(event, LogChunk):
            self._write(event)
        elif isinstance(event, StatusChanged):
            self._now = event
        elif isinstance(event, Ended):
            self._done.set()
            mark = {Status.SUCCEEDED: "✔", Status.FAILED: "✘"}.get(event.result.status, "■")
            self._print(f"{mark} {words.end(event.result)}", _style(event.result.status))
        else:
            is_warning = isinstance(event, LogGap | Silence)
            self._print(words.line(update) or "", "yellow" if is_warning else "dim")

    def say(self, text: str) -> None:
        self._print(text, "dim")

    def _write(self, chunk: LogChunk) -> None:
        with self._lock:
            self._clear()
            self._log.write(chunk)
            if self._shares_terminal and chunk.data:
                self._mid_line = not chunk.data.endswith(b"\n")

    def _print(self, text: str, style: str) -> None:
        with self._lock:
            self._clear()
            self._end_line()
            self._console.print(Text(set_off(text), style=style), soft_wrap=True)

    def _draw_until_done(self) -> None:
        while not self._done.wait(_REDRAW_S):
            with self._lock:
                if not self._mid_line and not self._done.is_set():
                    self._draw()

    def _draw(self) -> None:
        elapsed_s = time.monotonic() - self._began
        frame = _SPINNER[int(elapsed_s / _REDRAW_S) % len(_SPINNER)]
        status, _, rest = visible(words.move(self._now)).partition(" ")
        line: Any = Text.assemble(
            (f"{frame} {status}", _style(self._now.status)), f" {elapsed_s:.0f} s ", (rest, "dim")
        )
        self._log.settle()
        self._console.file.write(_CLEAR)
        self._console.print(line, end="", no_wrap=True, overflow="ellipsis", crop=True)
        self._console.file.flush()
        self._is_drawn = True

    def _clear(self) -> None:
        if self._is_drawn:
            self._console.file.write(_CLEAR)
            self._console.file.flush()
            self._is_drawn = False

    def _end_line(self) -> None:
        """Begin a new line where the log did not end its last one, in no colour of its own."""
        self._log.settle()
        if self._mid_line:
            self._console.file.write("\n")
            self._console.file.flush()
            self._mid_line = False
