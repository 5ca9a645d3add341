"""A task's log of its job: the containers' lines as KPO writes them, our own messages, and the hooks that are due.

Pure: updates of the job become lines and calls of hooks, in order, which operator and trigger carry out. Chunks of log
may end within a line or a UTF-8 character, and another reader may take over at any moment (a triggerer restarts). So
unfinished lines are kept back, and from :attr:`TaskLog.cursor` a successor reads exactly the lines that were not
written.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from airflow_bridge.callbacks import CallbackPod, HookCall
from airflow_bridge.container_lines import ContainerLine, LineAssembler
from dispatcher.events import Cursor, Ended, JobUpdate, LogChunk, LogGap, Notice, Silence, StatusChanged

#: The prefixes by which KPO finds a line's level.
_LEVEL = re.compile(r"^\s*(?:\[)?(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)(?:\])?\s*[:\-]?\s*", re.IGNORECASE)
_LEVELS = {"WARN": logging.WARNING, "FATAL": logging.CRITICAL}
_NOTICE_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

#: KPO's ``log_formatter``: container and message to the text that is logged.
Formatter = Callable[[str, str], str]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the task's log."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Style:
    """How the user wants the log, by KPO's parameters."""

    container_name_log_prefix_enabled: bool = True
    log_formatter: Formatter | None = None
    log_events_on_startup: bool = True


class TaskLog:
    """The task's log of one job; ``cursor``: where a former reader stopped."""

    __slots__ = ("_assembler", "_cursor", "_last_status_line", "_pod", "_style")

    def __init__(self, style: Style, cursor: Cursor | None = None) -> None:
        self._style = style
        self._assembler = LineAssembler()
        self._cursor = cursor or Cursor()
        self._last_status_line = ""
        self._pod: CallbackPod | None = None

    @property
    def cursor(self) -> Cursor:
        """Return where a successor goes on, with nothing missing and nothing twice."""
        return self._assembler.resumable(self._cursor)

    def render(self, update: JobUpdate) -> list[Line | HookCall]:
        """Return what to write and which hooks to call for one update."""
        log_id_before, self._cursor = self._cursor.log_id, update.cursor
        match update.event:
            case LogChunk() as chunk:
                return self._container_lines(self._assembler.feed(chunk, log_id_before), update.at)
            case LogGap() as gap:
                return [_gap(gap)]
            case StatusChanged() as change:
                ended = self._container_lines(self._assembler.flush(before_attempt=change.attempt), update.at)
                return [*ended, *self._status_line(update.job_id, change), *self._status_hooks(update.job_id, change)]
            case Notice() as notice:
                return [_notice(notice)]
            case Silence() as silence:
                return [Line(logging.WARNING, f"Job {update.job_id}: {silence.text}")]
            case Ended():
                return self._container_lines(self._assembler.flush(), update.at)

    def _container_lines(self, lines: list[ContainerLine], at: datetime) -> list[Line | HookCall]:
        due: list[Line | HookCall] = []
        for line in lines:
            details = {"line": line.text, "container_name": line.container, "timestamp": at}
            due += [self._container_line(line), HookCall("progress_callback", self._pod, details)]
        return due

    def _container_line(self, line: ContainerLine) -> Line:
        if line.text.startswith(("::group::", "::endgroup::")):
            return Line(logging.INFO, line.text)
        if self._style.log_formatter is not None:
            text = self._style.log_formatter(line.container, line.text)
        elif self._style.container_name_log_prefix_enabled:
            text = f"[{line.container}] {line.text}"
        else:
            text = line.text
        return Line(level_of(line.text), text)

    def _status_line(self, job_id: str, change: StatusChanged) -> list[Line]:
        detail = change.detail if self._style.log_events_on_startup or change.status != "STARTING" else ""
        where = f"pod {change.namespace}/{change.pod}" if change.pod else ""
        where += f" on node {change.node}" if change.pod and change.node else ""
        where += f" (attempt {change.attempt})" if change.attempt > 1 else ""
        text = ": ".join(part for part in (f"Job {job_id} is {change.status.value}", where, detail) if part)
        if text == self._last_status_line:
            return []
        self._last_status_line = text
        return [Line(logging.INFO, text)]

    def _status_hooks(self, job_id: str, change: StatusChanged) -> list[HookCall]:
        if not change.pod:
            return []
        former, self._pod = self._pod, CallbackPod.of_change(job_id, change)
        is_new = former is None or former.metadata.name != change.pod
        was_running = former is not None and former.status.phase == "Running"
        due = [HookCall("on_pod_creation", self._pod)] if is_new else []
        if change.status == "RUNNING" and not was_running:
            due.append(HookCall("on_pod_starting", self._pod))
        return due


def level_of(text: str) -> int:
    """Return the level that a line's own prefix names (``ERROR: …``, ``[warning] …``), or INFO."""
    found = _LEVEL.match(text)
    if found is None:
        return logging.INFO
    name = found.group(1).upper()
    return _LEVELS.get(name) or int(getattr(logging, name))


def _gap(gap: LogGap) -> Line:
    how_much = "part" if gap.end is None else f"{gap.end - gap.start:,} bytes"
    if gap.end == gap.start:
        return Line(logging.WARNING, f"[{gap.container}] the log may be damaged at byte {gap.start:,}: {gap.why}")
    return Line(logging.WARNING, f"[{gap.container}] {how_much} of the log are missing here: {gap.why}")


def _notice(notice: Notice) -> Line:
    return Line(_NOTICE_LEVELS[notice.level], notice.text)
