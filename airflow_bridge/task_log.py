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
from dispatcher.status import Status

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


@dataclass(frozen=True, slots=True)
class _Fold:
    """The fold (``::group::``) around the last start: of which attempt, and whether its end is still to be written."""

    attempt: int
    is_open: bool


def _fold_of(cursor: Cursor) -> _Fold:
    """Return what a former reader left: it opens the fold with the first event, and no log is written inside."""
    has_begun, has_log = cursor.event_id != Cursor().event_id, cursor.log_id != Cursor().log_id
    attempts = [attempt for attempt, _, _ in cursor.ends]
    return _Fold(max(attempts, default=1) if has_begun else 0, is_open=has_begun and not has_log)


class TaskLog:
    """The task's log of one job; ``cursor``: where a former reader stopped."""

    __slots__ = ("_assembler", "_cursor", "_fold", "_pod", "_style", "_told")

    def __init__(self, style: Style, cursor: Cursor | None = None) -> None:
        self._style = style
        self._assembler = LineAssembler()
        self._cursor = cursor or Cursor()
        self._told = StatusChanged(status=Status.QUEUED)  # whoever submits says so
        self._fold = _fold_of(self._cursor)
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
                return self._container_lines(self._assembler.feed(chunk, log_id_before, update.at), update.at)
            case LogGap() as gap:
                return [*self._unfolded(), _gap(gap)]
            case StatusChanged() as change:
                ended = self._container_lines(self._assembler.flush(before_attempt=change.attempt), update.at)
                return [*ended, *self._status_lines(change), *self._status_hooks(update.job_id, change)]
            case Notice() as notice:
                return [*(self._unfolded() if notice.level != "info" else []), _notice(notice)]
            case Silence() as silence:
                return [*self._unfolded(), Line(logging.WARNING, silence.text)]
            case Ended():
                return [*self._container_lines(self._assembler.flush(), update.at), *self._unfolded()]

    def _container_lines(self, lines: list[ContainerLine], at: datetime) -> list[Line | HookCall]:
        due: list[Line | HookCall] = [*self._unfolded()] if lines else []
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

    def _status_lines(self, change: StatusChanged) -> list[Line]:
        """Say what is new: of a pod its name once, of what it waits for each kind once (the worker sees to that).

        The start is folded, as in KPO, and what keeps a pod from starting is told below the fold.
        """
        told, self._told = self._told, change
        if change.status == "STARTING" and not self._style.log_events_on_startup:
            change = change.model_copy(update={"detail": ""})
        news = _news(change, told)
        if not news and change.status is told.status:
            return []
        line = Line(logging.WARNING if _is_kept(change) else logging.INFO, ": ".join((change.status.value, *news)))
        if _is_kept(change):
            return [*self._unfolded(), line]
        if change.status == "RUNNING":
            return [line, *self._unfolded()]
        return [*self._folded(change.attempt), line]

    def _folded(self, attempt: int) -> list[Line]:
        """Open the fold of an attempt's start, unless it was opened before."""
        if self._fold.attempt >= max(attempt, 1):
            return []
        self._fold = _Fold(max(attempt, 1), is_open=True)
        title = "Starting the pod" + (f" of attempt {attempt}" if attempt > 1 else "")
        return [Line(logging.INFO, f"::group::{title}")]

    def _unfolded(self) -> list[Line]:
        """Close the fold, if it is open."""
        if not self._fold.is_open:
            return []
        self._fold = _Fold(self._fold.attempt, is_open=False)
        return [Line(logging.INFO, "::endgroup::")]

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


def _news(change: StatusChanged, told: StatusChanged) -> list[str]:
    """Return what a change says that was not told: the pod, its node, and the detail."""
    is_new_pod = change.pod is not None and (change.pod, change.attempt) != (told.pod, told.attempt)
    where = [f"pod {change.namespace}/{change.pod}"] if is_new_pod else []
    if change.pod and change.node and (is_new_pod or change.node != told.node):
        where.append(f"on node {change.node}")
    is_new_detail = change.detail != told.detail or change.status is not told.status
    return [text for text in (" ".join(where), change.detail if is_new_detail else "") if text]


def _is_kept(change: StatusChanged) -> bool:
    """Whether the detail says what keeps the pod from starting: ``what: why``, in the worker's words."""
    return ": " in change.detail


def _gap(gap: LogGap) -> Line:
    how_much = "part" if gap.end is None else f"{gap.end - gap.start:,} bytes"
    if gap.end == gap.start:
        return Line(logging.WARNING, f"[{gap.container}] the log may be damaged at byte {gap.start:,}: {gap.why}")
    return Line(logging.WARNING, f"[{gap.container}] {how_much} of the log are missing here: {gap.why}")


def _notice(notice: Notice) -> Line:
    return Line(_NOTICE_LEVELS[notice.level], notice.text)
