"""What a task's log says about a job: the containers' lines as KPO writes them, and our own messages between them.

Pure: one thing heard becomes lines with a level; operator and trigger write them, each to its own log.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_bridge.lines import ContainerLine, LineAssembler

if TYPE_CHECKING:
    from dispatcher.events import Cursor, Heard, LogGap, Notice, StatusChanged

#: The prefixes by which KPO finds a line's level.
_LEVEL = re.compile(r"^\s*(?:\[)?(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)(?:\])?\s*[:\-]?\s*", re.IGNORECASE)
_LEVELS = {"WARN": logging.WARNING, "FATAL": logging.CRITICAL}
_NOTICE_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

#: KPO's ``log_formatter``: container and message to the text that is logged.
Formatter = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the task's log. ``source``: what the container wrote, where it is a container's line."""

    level: int
    text: str
    source: ContainerLine | None = None


@dataclass(frozen=True, slots=True)
class Style:
    """How a user wants to see it; the names are KPO's parameters."""

    container_name_log_prefix_enabled: bool = True
    log_formatter: Formatter | None = None
    log_events_on_startup: bool = True


class Narrator:
    """Tells one job's story, each thing once."""

    __slots__ = ("_assembler", "_cursor", "_style", "_told")

    def __init__(self, style: Style, cursor: "Cursor | None" = None) -> None:
        self._style = style
        self._assembler = LineAssembler()
        self._cursor = cursor
        self._told = ""

    @property
    def place(self) -> "Cursor | None":
        """From where a successor goes on so that nothing is told twice and nothing is lost."""
        return self._cursor and self._assembler.place(self._cursor)

    def tell(self, heard: "Heard") -> list[Line]:
        """What to write about one thing heard."""
        from dispatcher import events

        log_id_before = self._cursor.log_id if self._cursor else "0-0"
        self._cursor = heard.cursor
        match heard.event:
            case events.LogChunk() as chunk:
                return self._container_lines(self._assembler.feed(chunk, log_id_before))
            case events.LogGap() as gap:
                return [_gap(gap)]
            case events.StatusChanged() as change:
                ended = self._assembler.flush(before_attempt=change.attempt)
                return self._container_lines(ended) + self._move(heard.job_id, change)
            case events.Notice() as notice:
                return [_notice(notice)]
            case events.Silence() as silence:
                return [Line(logging.WARNING, f"Job {heard.job_id}: {silence.text}")]
            case events.Ended():
                return self._container_lines(self._assembler.flush())

    def _container_lines(self, lines: list[ContainerLine]) -> list[Line]:
        return [self._container_line(line) for line in lines]

    def _container_line(self, line: ContainerLine) -> Line:
        if line.text.startswith(("::group::", "::endgroup::")):
            return Line(logging.INFO, line.text, line)
        if self._style.log_formatter is not None:
            text = self._style.log_formatter(line.container, line.text)
        elif self._style.container_name_log_prefix_enabled:
            text = f"[{line.container}] {line.text}"
        else:
            text = line.text
        return Line(level_of(line.text), text, line)

    def _move(self, job_id: str, change: "StatusChanged") -> list[Line]:
        detail = change.detail if self._style.log_events_on_startup or change.status != "STARTING" else ""
        where = f"pod {change.namespace}/{change.pod}" if change.pod else ""
        where += f" on node {change.node}" if change.pod and change.node else ""
        where += f" (attempt {change.attempt})" if change.attempt > 1 else ""
        text = ": ".join(part for part in (f"Job {job_id} is {change.status.value}", where, detail) if part)
        if text == self._told:
            return []
        self._told = text
        return [Line(logging.INFO, text)]


def level_of(text: str) -> int:
    """The level that a line's own prefix names (``ERROR: …``, ``[warning] …``); INFO where it names none."""
    found = _LEVEL.match(text)
    if found is None:
        return logging.INFO
    name = found.group(1).upper()
    return _LEVELS.get(name) or int(getattr(logging, name))


def _gap(gap: "LogGap") -> Line:
    how_much = "part" if gap.end is None else f"{gap.end - gap.start:,} bytes"
    if gap.end == gap.start:
        return Line(logging.WARNING, f"[{gap.container}] the log may be damaged at byte {gap.start:,}: {gap.why}")
    return Line(logging.WARNING, f"[{gap.container}] {how_much} of the log are missing here: {gap.why}")


def _notice(notice: "Notice") -> Line:
    return Line(_NOTICE_LEVELS[notice.level], notice.text)
