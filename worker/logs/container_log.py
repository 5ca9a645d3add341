"""One container's log: a reader, a publisher, and the outbox between them, which never wait for each other."""

import asyncio

from dispatcher.events import LogSummary
from dispatcher.record import Checkpoint
from worker.cluster.client import Cluster
from worker.logs.outbox import Outbox
from worker.logs.publisher import JobOfLog, LetGoError, LogPublisher
from worker.logs.reader import LogReader
from worker.store import Store


class ContainerLog:
    """Reads and publishes one log from where its outbox stands to its end.

    Attributes:
        outbox: what was read, until Redis has it for good.
        reader: to be told what the pod shows.
    """

    def __init__(self, outbox: Outbox, *, job: JobOfLog, cluster: Cluster, store: Store, restarts: int = 0) -> None:
        self.outbox = outbox
        self.reader = LogReader(outbox, job=job, cluster=cluster, restarts=restarts)
        self._publisher = LogPublisher(outbox, self.reader, job=job, store=store)

    async def run(self) -> None:
        """Read and publish to the end.

        Raises:
            LetGoError: another incarnation owns the job.
        """
        try:
            while True:
                async with asyncio.TaskGroup() as halves:
                    halves.create_task(self.reader.run())
                    halves.create_task(self._publisher.run())
                if self.reader.rewind_to is None:
                    return
                self.reader.rewind()
        except* LetGoError:
            raise LetGoError from None
        finally:
            self.outbox.discard_waiting()

    def fall_back(self, to: Checkpoint) -> None:
        """Redis turns out to end here, before what it had taken."""
        self._publisher.fall_back(to)

    @property
    def summary(self) -> LogSummary:
        """What was published so far."""
        outbox, reader = self.outbox, self.reader
        is_complete = reader.is_whole and not (reader.has_gap or outbox.has_dropped or outbox.is_waiting)
        return LogSummary(bytes=outbox.published.end, sha256=outbox.published.chain, is_complete=is_complete)
