"""Find what nobody takes care of: jobs without an owner or with a dead one, pods without a record.

The queue's messages are hints, and some are lost, so the records themselves are swept. The claim decides, atomically,
which worker gets a job; small random batches let several workers share.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import structlog

from dispatcher import connection, names
from dispatcher.errors import InvalidSpecError
from dispatcher.events import Notice
from dispatcher.message import MESSAGE_BUCKETS
from dispatcher.record import JobRecord, encode_record
from dispatcher.status import Status
from dispatcher.steps import ClaimOutcome, Fence, RestoreOutcome, SurveyRow, expire, restore
from dispatcher.version import VERSION, is_older
from worker.cluster.client import Backoff, ClusterRefusedError, ClusterUnavailableError
from worker.cluster.observation import Observation
from worker.context import Context
from worker.ownership.job_controllers import JobControllers
from worker.ownership.reconciler import Reconciler
from worker.rules.spec_copy import spec_from_annotations

log = structlog.get_logger("podrelay.worker")

BATCH: Final = 20
#: A job that nobody can claim (its record cannot be read, or says that it is over) is not claimed again for this long:
#: it would keep others waiting.
SET_ASIDE_S: Final = 60.0
#: How long a job's message may be under way, while the queue is busy, before the sweep claims the job without it.
MESSAGE_S: Final = 30.0
#: How often a stray pod that is being deleted is looked at.
LEAVING_LOOK_S: Final = 60.0


class Sweeper:
    """Reconciles and sweeps, over and over.

    ``beat`` renews the lease, and so finds out whether Redis was emptied or failed over. What Redis does not show any
    more is judged only after a beat: right after it was emptied, everybody's jobs look like nobody's.
    """

    def __init__(
        self, ctx: Context, jobs: JobControllers, reconciler: Reconciler, beat: Callable[[], Awaitable[None]]
    ) -> None:
        self._ctx = ctx
        self._jobs = jobs
        self._reconciler = reconciler
        self._beat = beat
        self._is_due = asyncio.Event()
        self._strays: dict[str, Observation] = {}
        self._leaving: dict[str, float] = {}  # uids of strays that are being deleted: when each was looked at
        self._set_aside: dict[str, float] = {}
        self._beyond: set[str] = set()  # uids of pods that are logged as giving no record

    def sweep_now(self) -> None:
        """Sweep now, not at the next regular time."""
        self._is_due.set()

    def stray_pod(self, pod: Observation) -> None:
        """Take note of a pod of this queue for which there is no job here (most often another worker has it)."""
        self._strays[pod.uid] = pod

    async def run(self) -> None:
        """Reconcile and sweep for ever."""
        back_off = Backoff()
        while True:
            try:
                self._is_due.clear()
                await self._reconciler.reconcile()
                await self._beat()
                await self._sweep()
                back_off.succeeded()
                await self._pause(self._ctx.settings.sweep_s * random.uniform(0.75, 1.25))
            except (*connection.REFUSED, ClusterUnavailableError, ClusterRefusedError) as error:
                log.info("sweep interrupted", why=str(error) or type(error).__name__)
                await asyncio.sleep(back_off.failed(error))

    async def _pause(self, wait_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._is_due.wait()

    async def _sweep(self) -> None:
        rows, now = list(self._reconciler.rows.values()), self._ctx.lease.now()
        active = self._reconciler.rows
        self._set_aside = {x: until for x, until in self._set_aside.items() if until > now and x in active}
        await self._expire([row for row in rows if row.is_overdue and row.job_id not in self._jobs.by_id])
        unowned = [row for row in rows if self._is_abandoned(row) or self._waits(row)]
        served = [row for row in unowned if self._is_served(row)]
        await self._take_over([row for row in served if self._is_abandoned(row)])
        await self._launch([row for row in served if self._waits(row)])
        await self._tell_unserved([row for row in unowned if not self._is_served(row)])
        await self._settle_strays()
        self._jobs.capacity_changed()

    async def _expire(self, rows: list[SurveyRow]) -> None:
        for row in rows:
            with self._ctx.guard.one_of_many("sweep", job_id=row.job_id):
                await self._ctx.store.run_once([expire(row.job_id, self._ctx.settings.queue)])

    # Jobs

    async def _take_over(self, rows: list[SurveyRow]) -> None:
        """Claim jobs whose owner let go or is dead, whether there is capacity or not: somebody must."""
        random.shuffle(rows)
        for first in range(0, len(rows), BATCH):
            owners = {row.job_id: row.owner for row in rows[first : first + BATCH]}
            outcomes = await self._claim(owners)
            taken = [job_id for job_id, outcome in outcomes.items() if outcome is ClaimOutcome.CLAIMED]
            for job_id in taken:
                log.info("took over", job_id=job_id, former_owner=owners[job_id] or None)

    def _is_abandoned(self, row: SurveyRow) -> bool:
        if row.status is None or row.job_id in self._jobs.by_id or self._is_left_alone(row):
            return False
        if row.is_ownerless:
            return self._ctx.lease.may_launch and (row.epoch > 0 or row.status is not Status.QUEUED)
        return (
            not row.owner_is_alive and row.owner != self._ctx.incarnation and self._ctx.lease.is_dead(row.owner_seen_at)
        )

    def _is_served(self, row: SurveyRow) -> bool:
        is_new_enough = not is_older(VERSION, row.min_worker_version)
        return is_new_enough and (row.namespace or self._ctx.default_namespace) in self._ctx.served

    def _is_left_alone(self, row: SurveyRow) -> bool:
        """Whether this version cannot read the job's record: another one's status or intent, or junk."""
        return bool(row.unreadable) or row.job_id in self._set_aside

    def _waits(self, row: SurveyRow) -> bool:
        if self._is_left_alone(row):
            return False
        return row.status is Status.QUEUED and row.is_ownerless and row.epoch == 0 and not row.is_overdue

    async def _launch(self, rows: list[SurveyRow]) -> None:
        """Claim jobs whose message was lost, oldest first."""
        if not rows or not self._ctx.lease.may_launch:
            return
        patience_s = self._ctx.settings.sweep_s if await self._queue_is_empty() else MESSAGE_S
        before = self._ctx.lease.now() - patience_s
        for row in [row for row in rows if row.submitted_at < before][:BATCH]:
            if not self._jobs.has_capacity:
                return
            await self._claim({row.job_id: ""})

    async def _tell_unserved(self, rows: list[SurveyRow]) -> None:
        """Claim jobs that cannot run here: the refusal offers them to a worker that can, or says that none can."""
        waiting = [row for row in rows if row.status is Status.QUEUED]
        for row in random.sample(waiting, min(BATCH, len(waiting))):
            await self._claim({row.job_id: row.owner})

    async def _claim(self, owners: Mapping[str, str]) -> Mapping[str, ClaimOutcome]:
        """Claim jobs, each from its former owner; those that nobody can claim are set aside for a while."""
        outcomes = await self._jobs.claim_many(owners)
        until = self._ctx.lease.now() + SET_ASIDE_S
        hopeless = (ClaimOutcome.UNREADABLE, ClaimOutcome.FINAL)
        self._set_aside |= {x: until for x, outcome in outcomes.items() if outcome in hopeless}
        return outcomes

    async def _queue_is_empty(self) -> bool:
        queue = self._ctx.settings.queue
        lists = [names.message_list(queue, bucket) for bucket in MESSAGE_BUCKETS]
        return not await self._ctx.store.client.exists(*lists)

    # Pods

    async def _settle_strays(self) -> None:
        """Delete pods that no job has any more; rebuild from its pod a record that Redis has lost."""
        for pod in list(self._strays.values()):
            watched = self._ctx.watches.pod(pod.namespace, pod.name)
            if watched is None or watched.uid != pod.uid or watched.job_id in self._jobs.by_id:
                del self._strays[pod.uid]
                self._beyond.discard(pod.uid)
                self._leaving.pop(pod.uid, None)
                continue
            if watched.is_being_deleted and not self._is_its_turn(pod.uid):
                continue
            row = self._reconciler.rows.get(watched.job_id)
            if row is None or row.status is None or not (row.unreadable or _is_of(row, watched)):
                # One namespace's rights, or one record, must not hold up the others.
                with self._ctx.guard.one_of_many("sweep", pod=pod.name, namespace=pod.namespace):
                    await self._settle(watched)

    def _is_its_turn(self, uid: str) -> bool:
        """Whether to look again at a pod that is being deleted: seldom, as that may take days."""
        now = asyncio.get_running_loop().time()
        if uid in self._leaving and now < self._leaving[uid] + LEAVING_LOOK_S:
            return False
        self._leaving[uid] = now
        return True

    async def _settle(self, pod: Observation) -> None:
        record = await self._ctx.store.read_record(pod.job_id)
        if record is None:
            await self._rebuild(pod)
        elif record.unreadable_state is not None:
            return  # whoever can read it knows whose pod this is
        elif _is_stray(record, pod) and not pod.is_being_deleted:
            log.warning("deleting a stray pod", pod=pod.name, job_id=pod.job_id, attempt=pod.attempt)
            await self._ctx.cluster.delete_pod(pod.namespace, pod.name, uid=pod.uid)

    async def _may_rebuild(self) -> bool:
        if self._ctx.lease.may_rebuild:
            await self._beat()  # after the record was found missing
        return self._ctx.lease.may_rebuild

    async def _rebuild(self, pod: Observation) -> None:
        """Rebuild a pod's record from its annotations."""
        if not await self._may_rebuild():
            return
        found = await self._ctx.cluster.read_pod(pod.namespace, pod.name)
        annotations = ((found or {}).get("metadata") or {}).get("annotations")
        try:
            found_in = annotations if isinstance(annotations, dict) else {}
            spec = spec_from_annotations(found_in, job_id=pod.job_id, queue=pod.queue)
        except InvalidSpecError as error:
            if pod.uid not in self._beyond:
                log.error("a pod's record cannot be rebuilt", pod=pod.name, why=str(error))
            self._beyond.add(pod.uid)
            return
        record = JobRecord(
            pod.job_id,
            spec,
            pod.digest,
            Status.STARTING,
            attempt=pod.attempt,
            pod=pod.name,
            pod_uid=pod.uid,
            namespace=pod.namespace,
        )
        event = Notice(level="warning", text="Redis was emptied: this record was made again from the job's pod")
        (restored,) = await self._ctx.store.run_once(
            [restore(record, Fence("", 1), event=event, fields=encode_record(record))]
        )
        if restored.outcome is RestoreOutcome.RESTORED:
            log.warning("record rebuilt from its pod", job_id=pod.job_id, pod=pod.name)
            await self._jobs.claim_many({pod.job_id: ""})


def _is_of(row: SurveyRow, pod: Observation) -> bool:
    """Whether the pod is the active job's present one, or the one that is just being launched."""
    if row.pod_uid:
        return row.pod_uid == pod.uid
    return pod.attempt == row.attempt + 1


def _is_stray(record: JobRecord, pod: Observation) -> bool:
    """Whether no job has this pod (any more)."""
    if record.status.is_final and record.is_forgotten:
        return True
    if record.pod_uid is not None:
        return pod.uid != record.pod_uid and pod.attempt <= record.attempt
    return pod.attempt <= record.attempt
