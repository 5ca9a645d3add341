"""The only place where the command writes: our own words, log bytes, JSON objects. At once, to stdout or stderr.

Our words carry what others wrote (names, messages, reasons), so whatever would command a terminal in them is made
visible, on a pipe too. A log's bytes go out as they are to a file or a pipe, and as :mod:`dispatcher.cli.terminal_log`
shows them to a terminal. JSON has no control characters: they are escaped.
"""

import json
import re
import sys
from typing import TYPE_CHECKING, Any, Final

from dispatcher.cli.terminal_log import TerminalLog
from dispatcher.plain_text import visible

if TYPE_CHECKING:
    from dispatcher.events import LogChunk

#: What `json.dumps` leaves as it is.
_BARE: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


#: Of ``--raw``, where a command shows a log.
RAW_HELP: Final = "The log as it is to a terminal too, commands to it included."


def write_object(found: dict[str, Any]) -> None:
    """Write a JSON object as one line to stdout."""
    text = json.dumps(found, ensure_ascii=(sys.stdout.encoding or "").lower() not in ("utf-8", "utf8"))
    print(_BARE.sub(lambda bare: f"\\u{ord(bare[0]):04x}", text), flush=True)


def write_line(text: str) -> None:
    """Write a line of our own to stdout; more lines are set off from it."""
    print(set_off(text), flush=True)


def say(text: str) -> None:
    """Write a line of our own to stderr; more lines are set off from it."""
    print(f"podrelay: {set_off(text)}", file=sys.stderr, flush=True)


def pass_on(name: str, line: str) -> None:
    """Write to stderr what a process said that was started here."""
    print(f"{name:<7} | {visible(line)}", file=sys.stderr, flush=True)


def set_off(text: str, indent: int = 2) -> str:
    """Make a text visible. Its second line and the following are indented, so that none passes for one of ours."""
    first, *others = map(visible, text.split("\n"))
    return "\n".join([first, *(" " * indent + line.lstrip(" ") for line in others)])


class LogOutput:
    """Where log goes: to a file or a pipe as it is, to a terminal as it can be shown. ``raw``: as it is there too."""

    def __init__(self, *, raw: bool = False) -> None:
        self._is_shown = sys.stdout.isatty() and not raw
        self._source: tuple[str, int] | None = None
        self._log = TerminalLog()

    def write(self, chunk: "LogChunk") -> None:
        """Write a chunk."""
        if not self._is_shown:
            sys.stdout.buffer.write(chunk.data)
            sys.stdout.buffer.flush()
            return
        if (source := (chunk.container, chunk.attempt)) != self._source:
            self.end()
            self._source, self._log = source, TerminalLog()
        self._put(self._log.feed(chunk.data))

    def settle(self) -> None:
        """Take the log's colours from the terminal, before something else is written."""
        self._put(self._log.settle())

    def end(self) -> None:
        """Write what was held back, and take the colours away."""
        self._put(self._log.feed(b"", is_last=True) + self._log.settle())

    @staticmethod
    def _put(text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
