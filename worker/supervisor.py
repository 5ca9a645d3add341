"""The thread that runs a worker's loop beside Celery's consumer: start, launch from another thread, stop."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

import structlog

from dispatcher.spec import JobSpec
from dispatcher.steps import ClaimOutcome
from dispatcher.version import VERSION
from worker.loop import WorkerLoop, connect
from worker.metrics import Metrics
from worker.settings import WorkerSettings

log = structlog.get_logger("podrelay.worker")


class Supervisor:
    """Runs one worker's loop in its own thread; all that is public may be called from any other.

    ``set_consuming`` is called (from the loop's thread) with False when the worker is full or must not consume yet, and
    with True when it may consume again.
    """

    def __init__(self, settings: WorkerSettings, *, set_consuming: Callable[[bool], None]) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._set_consuming = set_consuming
        self._thread = threading.Thread(target=self._run_loop, name="podrelay supervisor", daemon=True)
        self._launches: set[Future[ClaimOutcome]] = set()
        self._is_ready = threading.Event()
        self._is_over = threading.Event()
        self._is_leaving = False
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._worker: WorkerLoop

    # From other threads

    def start(self) -> None:
        """Start the thread; wait for the lease and the API server's first answer, however long they take.

        Returns early after :meth:`begin_hand_over`.

        Raises:
            Exception: what kept it from starting (a wrong password, no usable cluster configuration).
        """
        self._thread.start()
        self._is_ready.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def failure(self) -> BaseException | None:
        """The exception that ended the loop; None where there was none."""
        return self._failure

    def launch(self, job: str | JobSpec) -> ClaimOutcome:
        """Claim the job and start its controller. A spec (a publisher in another language) is recorded first.

        Raises:
            TimeoutError: it cannot be claimed now; the sweep claims it when it can.
            concurrent.futures.CancelledError: the worker ends.
        """
        if self._is_over.is_set():
            raise TimeoutError("the worker ends")
        launching = asyncio.run_coroutine_threadsafe(self._worker.jobs.launch(job), self._loop)
        self._launches.add(launching)
        launching.add_done_callback(self._launches.discard)
        if self._is_over.is_set():  # meanwhile: nobody carries it out any more
            launching.cancel()
        return launching.result(timeout=60)

    def tell_ready(self) -> None:
        """Log what this worker serves, and let it pause and resume the queue: the consumer has started."""
        log.info(
            "worker ready",
            version=VERSION,
            incarnation=self._worker.incarnation,
            queue=self.settings.queue,
            namespaces=list(self._worker.served),
            redis=self.settings.masked_redis_url,
        )
        self._worker.tell_policy()
        with suppress(RuntimeError):  # the loop is closed: it has failed or handed over already
            self._loop.call_soon_threadsafe(self._worker.begin_consuming)

    def begin_hand_over(self) -> None:
        """Release every job at once, so that other workers take them. Safe in a signal handler; may come twice."""
        self._is_leaving = True
        with suppress(AttributeError, RuntimeError):  # no loop yet, or closed: it has handed over before
            self._loop.call_soon_threadsafe(self._worker.begin_hand_over)

    def stop(self, timeout_s: float = 8.0) -> None:
        """Hand over, then end the thread."""
        self.begin_hand_over()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    # The thread

    def _run_loop(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 the process says so at its end
            self._failure = error
            if self._is_ready.is_set():
                # A worker without its supervisor would take jobs and follow none: it ends, others take over.
                os.kill(os.getpid(), signal.SIGTERM)
        finally:
            self._is_ready.set()
            self._is_over.set()
            for launching in list(self._launches):
                launching.cancel()

    async def _main(self) -> None:
        async with connect(self.settings) as (store, cluster):
            self._worker = WorkerLoop(
                self.settings, store, cluster, metrics=self.metrics, set_consuming=self._set_consuming
            )
            self._loop = asyncio.get_running_loop()
            if self._is_leaving:  # asked for before there was a loop to tell
                self._worker.begin_hand_over()
            await self._worker.run(started=self._is_ready.set)
