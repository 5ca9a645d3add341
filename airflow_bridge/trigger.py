"""The trigger: follows a deferred task's job, writes its log live, and fires once, at the job's end.

Its arguments lie in Airflow's database, so they hold nothing secret: the connection is read in the triggerer. The
cursor is kept in Redis, so that a triggerer that is restarted or replaced goes on where the last one stopped.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_bridge.callbacks import (
    AsyncJobClient,
    Callbacks,
    ExecutionMode,
    HookCall,
    UserCodeError,
    acall,
    contained,
    import_object,
)
from airflow_bridge.task_identity import BY_A_USER
from airflow_bridge.task_log import Line, Style, TaskLog
from airflow_bridge.trigger_event import JobTriggerEvent, JobTriggerStatus
from dispatcher.backoff import JitteredBackoff
from dispatcher.errors import JobUnknownError, RedisUnavailableError

if TYPE_CHECKING:
    from airflow_bridge.shared_client import SharedClient
    from dispatcher.events import JobResult

#: The longest pause between two tries to reach Redis at the start; later the client waits by itself.
LONGEST_PAUSE_S = 5.0

#: How long a task stays deferred at least, where ``[podrelay] deferred_at_least_s`` does not say it.
DEFERRED_AT_LEAST_S = 3.0

#: KPO calls it in the task's process, also when the task is deferred, where it fails the task. It calls the others not
#: at all then.
_FAILS_THE_TASK = frozenset({"on_pod_creation"})


class PodRelayTrigger(BaseTrigger):
    """The trigger of a deferred task; it fires a :class:`~airflow_bridge.trigger_event.JobTriggerEvent`.

    Args:
        job_id: the job.
        podrelay_conn_id: the connection, by name.
        reader: who reads the channel; another trigger of the same reader goes on where this one stopped.
        deadline_at: when the task's execution timeout is over, in seconds of Redis' clock. As long as Redis cannot be
            reached for its time, only Airflow's own limit for a deferred task holds.
        on_kill_action: what becomes of the job when a user ends the task: ``delete_pod`` or ``keep_pod``.
        callbacks: the paths (``module:name``) of the classes with hooks.
        log_formatter: the path of the function.
    """

    def __init__(
        self,
        *,
        job_id: str,
        podrelay_conn_id: str,
        reader: str,
        deadline_at: float | None = None,
        on_kill_action: str = "delete_pod",
        container_name_log_prefix_enabled: bool = True,
        log_events_on_startup: bool = True,
        log_formatter: str | None = None,
        callbacks: Sequence[str] = (),
        trigger_kwargs: dict[str, object] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.job_id = job_id
        self.podrelay_conn_id = podrelay_conn_id
        self.reader = reader
        self.deadline_at = deadline_at
        self.on_kill_action = on_kill_action
        self.container_name_log_prefix_enabled = container_name_log_prefix_enabled
        self.log_events_on_startup = log_events_on_startup
        self.log_formatter = log_formatter
        self.callbacks = callbacks
        self.trigger_kwargs = trigger_kwargs
        self._uncalled: list[str] = []
        self._clock: Callable[[], float] = time.monotonic
        self._sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments, for Airflow's database."""
        arguments = {
            "job_id": self.job_id,
            "podrelay_conn_id": self.podrelay_conn_id,
            "reader": self.reader,
            "deadline_at": self.deadline_at,
            "on_kill_action": self.on_kill_action,
            "container_name_log_prefix_enabled": self.container_name_log_prefix_enabled,
            "log_events_on_startup": self.log_events_on_startup,
            "log_formatter": self.log_formatter,
            "callbacks": list(self.callbacks),
            "trigger_kwargs": self.trigger_kwargs,
        }
        return "airflow_bridge.trigger.PodRelayTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the job; yield one event, at its end or when the execution timeout is over."""
        began_at = self._clock()
        try:
            async with asyncio.timeout(None) as limit:
                event = await self._follow_through_outages(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            event = self._event(JobTriggerStatus.TIMEOUT, message="the task's execution timeout is over")
        except (JobUnknownError, UserCodeError) as error:
            event = self._event(JobTriggerStatus.ERROR, message=str(error))
        await self._sleep(hold_s(self._clock() - began_at, _at_least_s()))
        yield TriggerEvent(event.encode())  # type: ignore[no-untyped-call]  # Airflow's

    async def on_kill(self) -> None:
        """Cancel the job, or let it go on, as ``on_kill_action`` says: a user ended the task (marked or cleared it).

        Airflow does not call this when the triggerer stops or the trigger moves to another: the job goes on.
        """
        if self.on_kill_action == "keep_pod":
            self.log.info("Job %s goes on (on_kill_action is keep_pod).", self.job_id)
            return
        from airflow_bridge.shared_client import borrowed_client

        async with borrowed_client(self.podrelay_conn_id) as client:
            outcome = await client.dispatcher.cancel(self.job_id, BY_A_USER)
        self.log.info("Job %s: cancel %s.", self.job_id, outcome.value)

    async def cleanup(self) -> None:
        """Do nothing: :meth:`run` has released what it used, and the job goes on without its trigger."""

    async def _follow_through_outages(self, limit: asyncio.Timeout) -> JobTriggerEvent:
        from airflow_bridge.shared_client import borrowed_client

        backoff = JitteredBackoff(first_s=1.0, longest_s=LONGEST_PAUSE_S)
        while True:
            try:
                async with borrowed_client(self.podrelay_conn_id) as client:
                    if self.deadline_at is not None and limit.when() is None:
                        left_s = self.deadline_at - await client.dispatcher.now()
                        limit.reschedule(asyncio.get_running_loop().time() + left_s)
                    return self._ended(*await self._follow(client))
            except RedisUnavailableError as error:
                if backoff.failures == 0:
                    self.log.warning("%s; the job goes on meanwhile, waiting for Redis", error)
                await asyncio.sleep(backoff.failed())

    async def _follow(self, client: "SharedClient") -> "tuple[JobResult, str]":
        from dispatcher.events import Ended, LogChunk

        kept = await client.cursor(self.job_id, self.reader)
        task_log, callbacks = TaskLog(_style(self), kept), _callbacks(self)
        begun_at = written_to = task_log.cursor
        is_done = False
        try:
            async with aclosing(client.dispatcher.follow(self.job_id, kept)) as following:
                async for update in following:
                    for due in task_log.render(update):
                        await self._carry_out(due, callbacks, client)
                    written_to = task_log.cursor
                    if isinstance(update.event, Ended):
                        is_done = True
                        return update.event.result, written_to.encode()
                    if isinstance(update.event, LogChunk):
                        client.note_cursor(self.job_id, self.reader, written_to)
                        await asyncio.sleep(0)  # a log that floods must not hold up the other triggers
            # The cursor was behind the end: a former trigger fired, and its event was lost.
            return await client.dispatcher.result(self.job_id), written_to.encode()
        finally:
            if written_to != begun_at:
                await client.keep_cursor(self.job_id, self.reader, written_to, ended=is_done)

    async def _carry_out(self, due: Line | HookCall, callbacks: Callbacks, client: "SharedClient") -> None:
        if isinstance(due, Line):
            self.log.log(due.level, due.text)
            return
        job_client = AsyncJobClient(client.dispatcher, self.job_id)
        context = {"ti": self.task_instance, "task_instance": self.task_instance}
        arguments = due.arguments(client=job_client, mode=ExecutionMode.ASYNC, operator=None, context=context)
        try:
            with contained(f"callback {due.hook}"):
                await acall(callbacks, due.hook, **arguments)
        except UserCodeError:
            self.log.exception("callback %s failed", due.hook)
            if due.hook in _FAILS_THE_TASK:
                raise

    def _ended(self, result: "JobResult", cursor: str) -> JobTriggerEvent:
        status = JobTriggerStatus.SUCCESS if result.succeeded else JobTriggerStatus.FAILED
        return self._event(
            status,
            message=result.message,
            name=result.pod,
            namespace=result.namespace,
            cursor=cursor,
            job_status=result.status.value,
        )

    def _event(self, status: JobTriggerStatus, **details: Any) -> JobTriggerEvent:
        extra = self.trigger_kwargs or {}
        return JobTriggerEvent(
            job_id=self.job_id, status=status, extra=extra, uncalled=tuple(self._uncalled), **details
        )


def hold_s(waited_s: float, at_least_s: float) -> float:
    """Return how long to hold the event back, so that Airflow has seen the end of the process that deferred.

    A scheduler that reads that process's end only when the task is queued again takes it for that of the resumed task,
    which has not said how it ended, and fails the task without a word. Nothing tells a trigger what the scheduler has
    read, so only time helps.
    """
    return max(0.0, at_least_s - waited_s)


def _at_least_s() -> float:
    from airflow.sdk.configuration import conf

    return float(conf.getfloat("podrelay", "deferred_at_least_s", fallback=DEFERRED_AT_LEAST_S))


def _style(trigger: PodRelayTrigger) -> Style:
    formatter = None
    if trigger.log_formatter is not None:
        formatter = _imported(trigger, trigger.log_formatter)
        formatter = formatter and partial(_formatted, formatter)
    return Style(trigger.container_name_log_prefix_enabled, formatter, trigger.log_events_on_startup)


def _formatted(formatter: Callable[[str, str], str], container: str, line: str) -> str:
    with contained("log_formatter"):
        return formatter(container, line)


def _callbacks(trigger: PodRelayTrigger) -> Callbacks:
    found = {path: _imported(trigger, path) for path in trigger.callbacks}
    trigger._uncalled = [path for path, callback in found.items() if callback is None]
    return tuple(callback for callback in found.values() if callback is not None)


def _imported(trigger: PodRelayTrigger, path: str) -> Any:
    try:
        with contained("its import"):
            return import_object(path)
    except UserCodeError as error:
        trigger.log.warning(
            "the triggerer cannot import %s (%s): it is not called while the task is deferred", path, error
        )
        return None
