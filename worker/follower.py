"""One job, from its claim until it is forgotten.

It looks at the present (the record, then the pod) and does the one thing that is next; whatever it was doing when a
process died, the next owner's follower finds the same present and goes on. It waits for news only: from the watch, from
control, or for the time that a verdict names.
"""

import asyncio
from dataclasses import replace
from typing import Any, Final

import structlog

from dispatcher import names
from dispatcher.events import ClusterEvent, LogSummary, Notice, StatusChanged
from dispatcher.events import Ended as EndedEvent
from dispatcher.record import Checkpoint, DeletionIntent, JobRecord, checkpoint_field
from dispatcher.spec import JobSpec, OnFinish
from dispatcher.status import Status
from dispatcher.steps import Fence, Moved, MoveOutcome, Step, expire, forget, move, restore
from worker.attempts import Conclude, Retry, next_step
from worker.cluster import BackOff, ClusterRefusedError, ClusterUnavailableError
from worker.ending import ReturnValue, make_result, read_return_value, read_warnings
from worker.judge import Ended, MustEnd, Running, Settled, Starting, judge
from worker.kill_points import Reached, reached
from worker.launching import Later, Launched, Refused, ensure_pod
from worker.log_follower import LetGoError, LogFollower, LogSource
from worker.manifest import namespace_of
from worker.observation import Container, Observation, observe
from worker.seen import Seen
from worker.workplace import Finished, Workplace

log = structlog.get_logger("podrelay.worker")

#: A pod that was told to go is looked at again after its grace and this long.
GONE_GRACE_S: Final = 15.0
#: A pod that does not go is on a node that does not answer: the job does not wait for it for ever.
GIVE_UP_GONE_S: Final = 75.0
#: How long a result is kept in memory, in case that a failover of Redis loses it.
FINISHED_KEPT_S: Final = 60.0
PREDECESSOR_LOOK_S: Final = 5.0


class _MovedElsewhereError(Exception):
    """Somebody else has ended the job (a queue timeout, a cancel): look at the record again."""


class Follower:
    """Owns one job. :meth:`run` returns when the job is forgotten, or when another incarnation owns it."""

    def __init__(self, place: Workplace, record: JobRecord) -> None:
        self.record = record
        self.fence = Fence(place.incarnation, record.epoch)
        self._place = place
        self._pod: Observation | None = None
        self._is_in_doubt = False  # the pod may be gone: only a GET tells
        self._is_gone = False  # its deletion was seen
        self._seen = Seen()
        self._news = asyncio.Event()
        self._logs: dict[str, tuple[LogFollower, asyncio.Task[None]]] = {}
        self._launch_back_off = BackOff(first_s=0.5, longest_s=30.0)
        self._log = log.bind(job_id=record.job_id)

    @property
    def waits_outside(self) -> bool:
        """It waits for quota, back-off or a predecessor, and holds none of the worker's capacity."""
        return self.record.wait is not None

    # What the supervisor tells

    def pod_changed(self, pod: Observation) -> None:
        """The watch shows the pod (any uid of its name)."""
        if self.record.pod_uid in (None, pod.uid):
            self._pod = pod
            self._news.set()

    def pod_deleted(self, pod: Observation) -> None:
        """The watch shows the pod's deletion, with the last it was."""
        if self.record.pod_uid == pod.uid:
            self._pod, self._is_gone, self._is_in_doubt = pod, True, True
            self._news.set()

    def doubt(self) -> None:
        """Something hints that the pod is not what the watch last showed."""
        self._is_in_doubt = True
        self._news.set()

    def cancel_requested(self, by: str) -> None:
        """Somebody asks for the job's end."""
        if self.record.cancel_requested_by is None:
            self.record = replace(self.record, cancel_requested_by=by)
            reached(Reached.CANCEL_SEEN)
            self._news.set()

    def wake(self) -> None:
        """What the job waits for (quota, a predecessor) may be there."""
        self._news.set()

    # The life of a job

    async def run(self) -> None:
        """Follow the job to its end."""
        reached(Reached.CLAIMED)
        try:
            while not self.record.status.is_final:
                try:
                    await self._go_on()
                except _MovedElsewhereError:
                    await self._reload()
            await self._clean_up()
        except LetGoError:
            self._log.info("let go", epoch=self.fence.epoch)
        finally:
            await self._stop_logs()

    async def _go_on(self) -> None:
        if self.record.pod is None:
            await self._launch()
        elif self.record.deletion_intent is DeletionIntent.NEXT_ATTEMPT:
            await self._requeue()
        else:
            await self._follow()

    async def _reload(self) -> None:
        record = await self._place.ledger.read_record(self.record.job_id)
        if record is None:
            await self.restore()
        elif record.owner != self.fence.owner or record.epoch != self.fence.epoch:
            raise LetGoError
        else:
            self.record = record

    # Launching

    async def _launch(self) -> None:
        """Do the next thing towards a pod."""
        record, now = self.record, self._place.ledger.now()
        if record.cancel_requested:
            await self._cancel_unlaunched()
        elif now >= record.deadline_to_queue():
            await self._place.ledger.persist(expire(record.job_id, record.spec.queue))
            await self._reload()
        elif record.predecessor is not None and not await self._predecessor_is_gone(record.predecessor):
            await self._tell_wait("predecessor", f"waiting for the pod of its predecessor {record.predecessor}")
            await self._wait(PREDECESSOR_LOOK_S)
        elif now < record.not_before:
            await self._wait(record.not_before - now)
        else:
            await self._create()

    async def _create(self) -> None:
        attempt = self.record.attempt + 1
        match await ensure_pod(self._place, self.record, attempt):
            case Launched(pod, was_adopted):
                reached(Reached.POD_CREATED)
                await self._record_pod(pod, attempt, was_adopted=was_adopted)
            case Refused(reason, message):
                await self._conclude(Ended(Status.FAILED, reason, message, None, user_code_started=False))
            case Later(wait, detail, error):
                await self._tell_wait(wait, detail)
                await self._wait(self._launch_back_off.failed(error))

    async def _record_pod(self, pod: Observation, attempt: int, *, was_adopted: bool) -> None:
        fields = {
            "attempt": str(attempt),
            "pod": pod.name,
            "pod_uid": pod.uid,
            "namespace": pod.namespace,
            "wait": "",
            "not_before": "",
            "predecessor": "",
            "detail": "",
        }
        event = StatusChanged(status=Status.STARTING, attempt=attempt, pod=pod.name, namespace=pod.namespace)
        try:
            moved = await self._move(target=Status.STARTING, event=event, fields=fields)
        except _MovedElsewhereError:
            # The job was ended while its pod was being made.
            await self._delete(pod)
            raise
        self._moved(
            Status.STARTING,
            moved,
            attempt=attempt,
            pod=pod.name,
            pod_uid=pod.uid,
            namespace=pod.namespace,
            wait=None,
            predecessor=None,
        )
        reached(Reached.POD_RECORDED)
        self._pod, self._is_gone, self._is_in_doubt = pod, False, False
        newer = self._place.watches.pod(pod.namespace, pod.name)
        if newer is not None and newer.uid == pod.uid:
            self._pod = newer
        self._log.info("pod adopted" if was_adopted else "pod created", pod=pod.name, attempt=attempt)

    async def _cancel_unlaunched(self) -> None:
        """No pod is recorded, but a former owner may have died between its create and the record."""
        if self.record.takeovers > 0 or self.record.attempt > 0 or self._launch_back_off.since is not None:
            match await self._stray_pod():
                case Observation() as pod:
                    await self._record_pod(pod, self.record.attempt + 1, was_adopted=True)
                    return
        text = f"cancelled by {self.record.cancel_requested_by}"
        await self._conclude(Ended(Status.CANCELLED, None, text, None, user_code_started=False))

    async def _stray_pod(self) -> Observation | None:
        namespace = namespace_of(self.record.spec, self._place.default_namespace)
        name = names.pod_name(
            name=self.record.spec.name,
            installation=self._place.settings.installation,
            job_id=self.record.job_id,
            attempt=self.record.attempt + 1,
        )
        found = await self._read_pod(namespace, name)
        pod = observe(found) if found else None
        return pod if pod is not None and pod.job_id == self.record.job_id else None

    async def _predecessor_is_gone(self, predecessor: str) -> bool:
        record = await self._place.ledger.read_record(predecessor)
        return record is None or record.is_forgotten

    async def _tell_wait(self, wait: str, detail: str) -> None:
        if self.record.wait == wait and self.record.detail == detail:
            return
        event = StatusChanged(status=Status.QUEUED, detail=detail, attempt=self.record.attempt)
        await self._move(event=event, fields={"wait": wait, "detail": detail}, only_from=(Status.QUEUED,))
        self.record = replace(self.record, wait=wait, detail=detail)
        self._log.info("waiting", wait=wait, detail=detail)

    # Following

    async def _follow(self) -> None:
        """Follow the record's pod until its attempt has an outcome."""
        spec = self.record.spec
        while True:
            pod = await self._present()
            now = self._place.ledger.now()
            verdict = judge(spec, self.record, pod, now, seen=self._seen)
            if pod is not None:
                self._seen = self._seen.after(pod, spec.base_container, now)
                self._follow_logs(pod)
            match verdict:
                case Starting(detail, look_again_at):
                    await self._tell(Status.STARTING, detail)
                case Running(detail, look_again_at):
                    await self._tell(Status.RUNNING, detail)
                case MustEnd():
                    look_again_at = await self._end_pod(verdict, pod)
                case Ended():
                    await self._attempt_ended(verdict, pod)
                    return
                case Settled():
                    await self._settle(pod)
                    return
            await self._wait(None if look_again_at is None else look_again_at - self._place.ledger.now())

    async def _present(self) -> Observation | None:
        """The pod as it is; None where its absence is proved."""
        assert self.record.pod is not None
        assert self.record.namespace is not None
        if self._pod is None:
            self._pod = self._place.watches.pod(self.record.namespace, self.record.pod)
        if self._is_gone and self._pod is not None and self._has_outcome(self._pod):
            return self._pod
        if self._pod is None or self._pod.uid != self.record.pod_uid or self._is_in_doubt:
            self._is_in_doubt = False
            found = await self._read_pod(self.record.namespace, self.record.pod)
            seen = observe(found) if found else None
            if seen is None or seen.uid != self.record.pod_uid:
                self._is_gone = True
                self._is_in_doubt = True  # whoever asks again must find out again
                return None
            self._pod = seen
        return self._pod

    def _has_outcome(self, pod: Observation) -> bool:
        """Whether the last that was seen of a deleted pod tells how its base container ended."""
        base = pod.container(self.record.spec.base_container)
        return pod.has_ended or (base is not None and base.state == "terminated")

    async def _read_pod(self, namespace: str, name: str) -> dict[str, Any] | None:
        back_off = BackOff()
        while True:
            try:
                return await self._place.cluster.read_pod(namespace, name)
            except (ClusterUnavailableError, ClusterRefusedError) as error:
                self._log.info("pod cannot be read", pod=name, why=str(error))
                await asyncio.sleep(back_off.failed(error))

    async def _tell(self, status: Status, detail: str) -> None:
        record, node = self.record, self._pod.node if self._pod else None
        if record.status is status and record.detail == detail and record.node == node:
            return
        event = StatusChanged(
            status=status,
            detail=detail,
            attempt=record.attempt,
            pod=record.pod,
            namespace=record.namespace,
            node=node,
        )
        moved = await self._move(target=status, event=event, fields={"detail": detail, "node": node or ""})
        is_news = record.status is not status
        self._moved(status, moved, detail=detail, node=node)
        if is_news:
            self._log.info("status", status=status.value, pod=record.pod, node=node)
            if status is Status.RUNNING:
                reached(Reached.RUNNING_RECORDED)

    async def _end_pod(self, verdict: MustEnd, pod: Observation | None) -> float:
        """Record the intent, then ask for the pod's deletion; returns when to look again."""
        if self.record.deletion_intent is not verdict.intent:
            fields = {"intent": verdict.intent.value, "intent_message": verdict.message}
            if verdict.reason is not None:
                fields["intent_reason"] = verdict.reason.value
            await self._move(fields=fields)
            self.record = replace(
                self.record,
                deletion_intent=verdict.intent,
                intent_reason=verdict.reason,
                intent_message=verdict.message,
            )
            self._log.info("ending the pod", intent=verdict.intent.value, why=verdict.message)
            reached(Reached.INTENT_RECORDED)
        if pod is not None:
            await self._delete(pod)
        return self._place.ledger.now() + 5.0

    async def _delete(self, pod: Observation) -> None:
        """Ask for the pod's deletion, until the API server has heard it."""
        back_off = BackOff()
        while True:
            try:
                is_there = await self._place.cluster.delete_pod(pod.namespace, pod.name, uid=pod.uid)
                break
            except (ClusterUnavailableError, ClusterRefusedError) as error:
                self._log.warning("pod cannot be deleted", pod=pod.name, why=str(error))
                await asyncio.sleep(back_off.failed(error))
        if not is_there:
            self._is_gone = self._is_in_doubt = True
        reached(Reached.POD_DELETED)

    # Logs

    def _follow_logs(self, pod: Observation) -> None:
        """Start to follow the containers that have started, and tell those followed of their ends."""
        for container in pod.containers:
            if not self._is_followed(container):
                continue
            if container.name not in self._logs and container.has_started:
                self._start_log(pod, container.name)
            if container.name in self._logs and (container.state == "terminated" or self._is_gone):
                self._logs[container.name][0].container_ended()

    def _is_followed(self, container: Container) -> bool:
        spec = self.record.spec
        if not spec.get_logs or not container.is_users:
            return False
        wanted = spec.container_logs if container.kind == "main" else spec.init_container_logs
        if wanted is None:
            return container.name == spec.base_container
        return wanted == "all" or container.name in wanted

    def _start_log(self, pod: Observation, container: str) -> None:
        record = self.record
        source = LogSource(
            job_id=record.job_id,
            namespace=pod.namespace,
            pod=pod.name,
            container=container,
            attempt=record.attempt,
            limit_bytes=record.spec.log_limit_bytes,
        )
        follower = LogFollower(
            source,
            record.checkpoints.get((record.attempt, container), Checkpoint()),
            job=self,
            cluster=self._place.cluster,
            ledger=self._place.ledger,
            buffers=self._place.buffers,
        )
        self._logs[container] = (follower, asyncio.create_task(follower.run(), name=f"log {pod.name}/{container}"))

    async def _drain_logs(self) -> dict[str, LogSummary]:
        """Wait for the logs' ends, but never longer than the spec allows."""
        for follower, _ in self._logs.values():
            follower.container_ended()
        tasks = [task for _, task in self._logs.values()]
        if tasks:
            done, late = await asyncio.wait(tasks, timeout=self.record.spec.log_drain_timeout_s)
            if late:
                self._log.warning("log not drained in time", containers=len(late))
            for task in done:
                task.result()  # raises LetGoError where another owns the job
        reached(Reached.LOG_DRAINED)
        summaries = {container: follower.summary for container, (follower, _) in self._logs.items()}
        await self._stop_logs()
        return summaries

    async def _stop_logs(self) -> None:
        tasks = [task for _, task in self._logs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._remember_checkpoints()
        self._logs.clear()

    def _remember_checkpoints(self) -> None:
        known = {(self.record.attempt, name): log.published for name, (log, _) in self._logs.items()}
        self.record = replace(self.record, checkpoints={**self.record.checkpoints, **known})

    # Ending

    async def _attempt_ended(self, ended: Ended, pod: Observation | None) -> None:
        match next_step(self.record.spec, self.record, ended):
            case Retry(attempt, back_off_s, why):
                await self._drain_logs()
                await self._record_retry(attempt, back_off_s, why)
            case Conclude():
                await self._conclude(ended, pod)

    async def _record_retry(self, attempt: int, back_off_s: float, why: str) -> None:
        not_before = self._place.ledger.now() + back_off_s
        fields = {"intent": DeletionIntent.NEXT_ATTEMPT.value, "not_before": f"{not_before:.6f}"}
        text = f"{why} Attempt {attempt} follows in {back_off_s:.0f} s."
        await self._move(event=Notice(level="warning", text=text), fields=fields)
        self.record = replace(self.record, deletion_intent=DeletionIntent.NEXT_ATTEMPT, not_before=not_before)
        self._log.info("attempt failed", attempt=self.record.attempt, why=why)
        reached(Reached.RETRY_RECORDED)

    async def _requeue(self) -> None:
        """Remove the failed attempt's pod; the job then waits for its next one."""
        pod = await self._present()
        if pod is not None:
            await self._delete(pod)
            await self._until_gone(pod)
        detail = f"backing off before attempt {self.record.attempt + 1}"
        cleared = dict.fromkeys(("pod", "pod_uid", "node", "intent", "intent_reason", "intent_message"), "")
        event = StatusChanged(status=Status.QUEUED, detail=detail, attempt=self.record.attempt)
        fields = {**cleared, "wait": "back_off", "detail": detail}
        moved = await self._move(target=Status.QUEUED, event=event, fields=fields)
        self._moved(
            Status.QUEUED,
            moved,
            pod=None,
            pod_uid=None,
            node=None,
            deletion_intent=None,
            intent_reason=None,
            intent_message="",
            wait="back_off",
            detail=detail,
        )
        self._pod, self._seen, self._is_gone, self._is_in_doubt = None, Seen(), False, False
        reached(Reached.REQUEUED)

    async def _settle(self, pod: Observation | None) -> None:
        """The record says that we removed this pod at the job's end, but it has no result: its worker died between
        asking for the deletion and the result (only possible with extra containers and a return value)."""
        if self.record.deletion_intent is not DeletionIntent.FINISHED:
            await self._reload()
            return
        status = Status.SUCCEEDED if self.record.intent_reason is None else Status.FAILED
        ended = Ended(status, self.record.intent_reason, self.record.intent_message, None, user_code_started=True)
        await self._conclude(ended, pod)

    async def _conclude(self, ended: Ended, pod: Observation | None = None) -> None:
        """Gather what belongs to the result, and append it."""
        record, place = self.record, self._place
        return_value = ReturnValue()
        logs: dict[str, LogSummary] = {}
        if pod is not None or self._logs:
            if record.spec.return_value and ended.status is Status.SUCCEEDED and pod is not None:
                return_value, logs = await self._collect(ended, pod)
            else:
                logs = await self._drain_logs()
        warnings: tuple[ClusterEvent, ...] = ()
        if ended.status is Status.FAILED and record.pod is not None and record.namespace is not None:
            warnings = await read_warnings(place.cluster, record.namespace, record.pod_uid or "")
        result = make_result(
            self.record,
            ended,
            pod,
            return_value=return_value,
            warnings=warnings,
            logs=logs,
            log_url=self._log_url(),
        )
        event = EndedEvent(result=result)
        fields = {
            "result": result.model_dump_json(exclude_none=True),
            "reason": result.reason.value if result.reason else "",
            "intent": DeletionIntent.FINISHED.value,
            "wait": "",
            "detail": "",
        }
        moved = await self._move(target=result.status, event=event, fields=fields)
        self._moved(result.status, moved, reason=result.reason, result=result, wait=None, detail="")
        place.finished[record.job_id] = Finished(
            self.record, self.fence, event, fields, place.ledger.now() + FINISHED_KEPT_S
        )
        self._log.info(
            "ended", status=result.status.value, reason=result.reason and result.reason.value, why=result.message
        )
        reached(Reached.RESULT_APPENDED)

    async def _collect(self, ended: Ended, pod: Observation) -> tuple[ReturnValue, dict[str, LogSummary]]:
        """Drain the logs and read the return value. The sidecar prints when it is told to end, which the kubelet does
        after all plain containers have ended: one that goes on is ended by deleting the pod."""
        reading = asyncio.create_task(read_return_value(self._place.cluster, pod.namespace, pod.name))
        try:
            logs = await self._drain_logs()
            if any(c.kind == "main" and c.state != "terminated" for c in pod.containers):
                await self._end_pod(MustEnd(DeletionIntent.FINISHED, ended.reason, ended.message), pod)
            return_value = await reading
        finally:
            reading.cancel()
        reached(Reached.RETURN_VALUE_READ)
        return return_value, logs

    def _log_url(self) -> str | None:
        record = self.record
        return self._place.log_url(
            namespace=record.namespace or "",
            pod=record.pod or "",
            pod_uid=record.pod_uid or "",
            container=record.spec.base_container,
            job_id=record.job_id,
            attempt=record.attempt,
        )

    async def _clean_up(self) -> None:
        """Remove the pod, or mark and keep it; then forget the job."""
        if self.record.pod is not None:
            pod = await self._present()
            if pod is not None and self._is_kept(self.record.spec, pod):
                await self._mark_done(pod)
            elif pod is not None and not self._is_gone:
                await self._delete(pod)
                await self._until_gone(pod)
        reply = await self._place.ledger.persist(forget(self.record.job_id, self.fence, self.record.spec.queue))
        self._log.info("forgotten", reply=reply)
        reached(Reached.FORGOTTEN)

    def _is_kept(self, spec: JobSpec, pod: Observation) -> bool:
        if self.record.status is Status.CANCELLED or pod.is_being_deleted:
            return False
        match spec.on_finish:
            case OnFinish.DELETE_POD:
                return False
            case OnFinish.KEEP_POD:
                return True
            case OnFinish.DELETE_SUCCEEDED_POD:
                return self.record.status is not Status.SUCCEEDED
            case OnFinish.DELETE_ACTIVE_POD:
                return all(c.state == "terminated" for c in pod.containers) or pod.has_ended

    async def _mark_done(self, pod: Observation) -> None:
        back_off = BackOff()
        metadata = {"uid": pod.uid, "labels": {names.LABEL_DONE: "true"}}
        while True:
            try:
                await self._place.cluster.patch_pod(pod.namespace, pod.name, metadata)
                return
            except (ClusterUnavailableError, ClusterRefusedError) as error:
                self._log.warning("pod cannot be marked", pod=pod.name, why=str(error))
                await asyncio.sleep(back_off.failed(error))

    async def _until_gone(self, pod: Observation) -> None:
        """Wait until the pod is gone; a GET proves it where the watch does not tell."""
        began = asyncio.get_running_loop().time()
        grace_s = pod.deletion_grace_s or self.record.spec.termination_grace_period_s or 30
        while not self._is_gone and asyncio.get_running_loop().time() - began < grace_s + GIVE_UP_GONE_S:
            had_news = await self._wait(grace_s + GONE_GRACE_S)
            if self._is_in_doubt or not had_news:
                self._is_in_doubt = True
                await self._present()

    # The record

    async def restore(self) -> None:
        """Make the record again that Redis has lost, as this owner knows it."""
        self._remember_checkpoints()
        record = self.record
        fields = {
            "attempt": str(record.attempt),
            "epoch": str(self.fence.epoch),
            "detail": record.detail,
            "takeovers": str(record.takeovers),
            **{name: value for name, value in _optional_fields(record).items() if value},
            **{f"at:{what}": f"{at:.6f}" for what, at in record.reached.items()},
            **{checkpoint_field(a, c): point.encode() for (a, c), point in record.checkpoints.items()},
        }
        lost = replace(record, status=Status.RUNNING) if record.status.is_final else record
        event = StatusChanged(
            status=lost.status,
            detail=record.detail,
            attempt=record.attempt,
            pod=record.pod,
            namespace=record.namespace,
            node=record.node,
        )
        step = restore(lost, owner=self.fence.owner, event=event, fields=fields)
        reply = await self._place.ledger.persist(step)
        self._log.warning("record restored", reply=reply)

    async def _move(self, **change: Any) -> Moved:
        """Change the record.

        Raises:
            LetGoError: another incarnation owns the job.
            _MovedElsewhereError: somebody has ended it.
        """
        step: Step[Moved] = move(self.record.job_id, self.fence, **change)
        while True:
            moved = await self._place.ledger.persist(step)
            match moved.outcome:
                case MoveOutcome.APPLIED:
                    if moved.cancel_by:
                        self.cancel_requested(moved.cancel_by)
                    return moved
                case MoveOutcome.FENCED:
                    raise LetGoError
                case MoveOutcome.ILLEGAL:
                    raise _MovedElsewhereError
                case MoveOutcome.MISSING:
                    await self.restore()

    def _moved(self, status: Status, moved: Moved, **changes: Any) -> None:
        times = dict(self.record.reached)
        if status is not self.record.status:
            times[status.value.lower()] = moved.at
            if status is Status.QUEUED:
                times.pop("starting", None)
                times.pop("running", None)
        self.record = replace(self.record, status=status, reached=times, **changes)

    async def _wait(self, limit_s: float | None) -> bool:
        """Wait for news; False where the time was over first."""
        try:
            if limit_s is None:
                await self._news.wait()
            elif limit_s > 0 or self._news.is_set():
                await asyncio.wait_for(self._news.wait(), max(0.0, limit_s))
            else:
                await asyncio.sleep(0)
                return False
        except TimeoutError:
            return False
        self._news.clear()
        return True


def _optional_fields(record: JobRecord) -> dict[str, str]:
    """The record's fields that may be empty, as the hash holds them."""
    return {
        "pod": record.pod or "",
        "pod_uid": record.pod_uid or "",
        "namespace": record.namespace or "",
        "node": record.node or "",
        "intent": record.deletion_intent.value if record.deletion_intent else "",
        "intent_reason": record.intent_reason.value if record.intent_reason else "",
        "intent_message": record.intent_message,
        "cancel_by": record.cancel_requested_by or "",
        "predecessor": record.predecessor or "",
        "wait": record.wait or "",
        "not_before": f"{record.not_before:.6f}" if record.not_before else "",
    }
