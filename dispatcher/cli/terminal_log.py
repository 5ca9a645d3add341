"""A container's log on a terminal: what it writes is shown, colours included; what would command the terminal is not.

A log may hold anything: sequences that set the clipboard, retitle the window, move the cursor over what stands above.
Colours (SGR, `ESC [ … m`) pass, as do newline, tab and carriage return (a progress bar writes over its own line); every
other control character is made visible. podrelay's own words never take a log's colours over: they are reset before,
and set again when the log goes on.
"""

import codecs
import re
from typing import Final

from dispatcher.plain_text import CONTROL, visible

#: Colours, what else passes, and what does not. Longer parameters than any terminal knows are no colours.
_TOKEN: Final = re.compile(rf"(?P<colour>\x1b\[[0-9;:]{{0,40}}m)|[\n\t\r]|(?P<control>{CONTROL.pattern})")
#: The beginning of what may be a colour, at the end of a chunk.
_BEGUN: Final = re.compile(r"\x1b(\[[0-9;:]{0,40})?\Z")
_RESETS: Final = ("\x1b[m", "\x1b[0m")
#: Colours that are remembered: more are nested by nobody.
_MOST_CHARACTERS: Final = 400


class TerminalLog:
    """The log of one container, chunk by chunk. Pure: bytes in, text for the terminal out."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""
        self._colours = ""
        self._is_settled = True

    def feed(self, data: bytes, *, is_last: bool = False) -> str:
        """Return what to write for a chunk. A character or colour that is cut waits for the next one."""
        text = self._held + self._decoder.decode(data, is_last)
        begun = None if is_last else _BEGUN.search(text)
        self._held = text[begun.start() :] if begun else ""
        before = self._colours if self._is_settled else ""
        shown = _TOKEN.sub(self._token, text[: begun.start()] if begun else text)
        self._is_settled = self._is_settled and not shown
        return before + shown if shown else ""

    def settle(self) -> str:
        """Return what to write before other words: the end of the log's colours, until it goes on."""
        is_coloured = bool(self._colours) and not self._is_settled
        self._is_settled = True
        return _RESETS[1] if is_coloured else ""

    def _token(self, found: re.Match[str]) -> str:
        colour = found["colour"]
        if colour:
            self._colours = "" if colour in _RESETS else (self._colours + colour)[-_MOST_CHARACTERS:]
        return visible(found[0]) if found["control"] else found[0]
