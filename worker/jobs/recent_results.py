"""Results that were appended or found a short while ago, kept in memory in case Redis loses them.

A failover of Redis loses its last writes, and somebody may empty it: then only a worker that appended or found a result
still knows it, and appends it again, so that the job does not run a second time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from dispatcher.events import Ended
from dispatcher.record import JobRecord
from dispatcher.steps import SurveyRow
from worker.lease import Lease
from worker.logs.attempt import Tails, discard
from worker.logs.outbox import LogBudget

#: How long a result is kept, at least.
KEPT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A result, with the record as its owner knew it.

    ``tails``: the ends of the job's logs, which Redis may lose with it. ``until``: to be kept until then (seconds,
    Redis' clock). ``server_run``: the run of Redis in which the result is known to be there.
    """

    record: JobRecord
    ended: Ended
    tails: Tails
    until: float
    server_run: str


class RecentResults:
    """The recent results of one worker, by job id."""

    def __init__(self, lease: Lease, log_budget: LogBudget) -> None:
        self._lease = lease
        self._log_budget = log_budget
        self._kept: dict[str, Finished] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._kept

    def keep(self, record: JobRecord, ended: Ended, tails: Tails) -> None:
        """Keep a result that was just appended, and the ends of its logs as long as there is room for them."""
        until = self._lease.now() + KEPT_S
        self._kept[record.job_id] = Finished(record, ended, tails, until, self._lease.server_run)
        self._log_budget.keep_ended(tails.values())

    def keep_found(self, record: JobRecord) -> None:
        """Keep a result that somebody else appended, a former owner most often, while this worker cleans up after it.

        Without it Redis would get the record back without its result, and as that of a job that has succeeded.
        """
        if record.result is not None and record.unreadable_result is None and record.job_id not in self._kept:
            result = record.result.model_copy(update={"times": {}})
            self.keep(replace(record, deletion_intent=None), Ended(result=result), {})

    def of_resubmitted(self, record: JobRecord) -> Finished | None:
        """Return the result of this job where Redis was emptied after it, and its caller has submitted it again."""
        finished = self._kept.get(record.job_id)
        is_new = record.attempt == 0 and record.pod is None
        return finished if finished and is_new and finished.record.digest == record.digest else None

    def doubtful(self, rows: Mapping[str, SurveyRow], controlled: Mapping[str, JobRecord]) -> list[Finished]:
        """List the results that Redis may have lost; those that were kept for long enough are forgotten.

        ``rows``: the queue's active jobs as they stand in Redis. ``controlled``: the records of this worker's jobs as
        their controllers know them; one that has not ended there is to have its end from its controller.
        """
        found, now = list[Finished](), self._lease.now()
        for job_id, finished in list(self._kept.items()):
            known = controlled.get(job_id)
            if known is not None and not known.status.is_final:
                continue
            if self._may_be_lost(finished, rows.get(job_id)):
                found.append(finished)
            elif known is None and now > finished.until:
                self.forget(job_id)
        return found

    def _may_be_lost(self, finished: Finished, row: SurveyRow | None) -> bool:
        """Whether Redis shows the job as not ended, or not at all since it was emptied, restarted or failed over."""
        if row is None:
            return finished.server_run != self._lease.server_run
        return row.status is None or not row.status.is_final

    def confirm(self, job_id: str, server_run: str) -> None:
        """Note that Redis had the result in this run."""
        self._kept[job_id] = replace(self._kept[job_id], server_run=server_run)

    def forget(self, job_id: str) -> None:
        """Drop a result: it is in Redis for good, or another worker's stands."""
        discard(self._kept.pop(job_id).tails)
