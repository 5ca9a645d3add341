"""Where a followed job is shown: as plain lines, as JSON objects, or on a terminal with a line of progress.

Log bytes go to stdout as the container wrote them; whatever podrelay says itself goes to stderr. So `> file` and
`| grep` get the log and nothing else, and bytes that are not UTF-8 pass unharmed. A terminal gets of a log what shows.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from dispatcher.cli import words
from dispatcher.cli.output import LogOutput, say, write_line, write_object
from dispatcher.errors import JobIdTakenError
from dispatcher.events import JobUpdate, LogChunk
from dispatcher.steps import Submitted


class Screen(Protocol):
    """Where a followed job is shown."""

    def submitted(self, found: Submitted, queue: str) -> None:
        """Show what the submit did."""

    def show(self, update: JobUpdate) -> None:
        """Show what happened to the job."""

    def say(self, text: str) -> None:
        """Show a line of our own."""


@contextmanager
def screen(*, as_json: bool, raw: bool = False) -> Iterator[Screen]:
    """Choose the screen that fits where the output goes. ``raw``: log goes as it is to a terminal too."""
    if not as_json and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        from dispatcher.cli.progress import ProgressScreen

        with ProgressScreen(LogOutput(raw=raw)) as progress:
            yield progress
    else:
        with plain_screen(as_json=as_json, raw=raw) as plain:
            yield plain


@contextmanager
def plain_screen(*, as_json: bool, raw: bool) -> Iterator[Screen]:
    """Choose a screen that has no line of progress."""
    if as_json:
        yield JsonScreen()
        return
    log = LogOutput(raw=raw)
    try:
        yield PlainScreen(log)
    finally:
        log.end()


class PlainScreen:
    """Log to stdout, one line for everything else to stderr."""

    def __init__(self, log: LogOutput) -> None:
        self.log = log

    def submitted(self, found: Submitted, queue: str) -> None:
        self.say(words.submitted(found, queue))

    def show(self, update: JobUpdate) -> None:
        if isinstance(update.event, LogChunk):
            self.log.write(update.event)
            return
        text = words.line(update)
        if text is not None:
            self.say(text)

    def say(self, text: str) -> None:
        self.log.settle()
        say(text)


class JsonScreen:
    """One JSON object a line on stdout; what is no part of the job's channel goes to stderr as text."""

    def submitted(self, found: Submitted, queue: str) -> None:
        write_object(submitted_object(found))

    def show(self, update: JobUpdate) -> None:
        write_object(words.as_object(update))

    def say(self, text: str) -> None:
        say(text)


def print_submitted(found: Submitted, *, as_json: bool) -> None:
    """Write the whole output of a submit that does not follow: the id alone, for ``$(…)``."""
    if as_json:
        write_object(submitted_object(found))
    else:
        write_line(found.job_id)


def print_id_taken(error: JobIdTakenError) -> None:
    """Write, in place of what the submit did, whose the id is."""
    of_first = {"queue": error.queue, "status": error.status or None, "differs": list(error.differs)}
    write_object({"kind": "submitted", "job_id": error.job_id, "outcome": "id_taken", **of_first})


def submitted_object(found: Submitted) -> dict[str, Any]:
    """Make the JSON object of what the submit did, the first one of a follow."""
    return {"kind": "submitted", "job_id": found.job_id, "outcome": found.outcome.value}
