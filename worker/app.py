"""The Celery application of a worker process: ``celery -A worker.app worker``, or ``python -m worker``.

Importing this module reads the settings, because it *is* a process' entry point.
"""

import os
import sys
from typing import Any, NoReturn

import structlog
from celery import Celery, bootsteps, signals
from celery.apps import worker as celery_worker
from celery.exceptions import WorkerShutdown
from kombu import Queue
from kombu.transport import TRANSPORT_ALIASES

from dispatcher import names
from dispatcher.errors import PodrelayError, SettingsError
from dispatcher.message import MESSAGE_BUCKETS
from worker.exit_status import FAILED, ExitStatus, exit_status_for, print_line
from worker.logging import configure_logging
from worker.queue.consumer import use_dead_letters
from worker.queue.dead_letters import DeadLetters
from worker.queue.launch_task import launch
from worker.rules.policy import policy_of
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

log = structlog.get_logger("podrelay.worker")


def _end(status: ExitStatus) -> NoReturn:
    print_line(status)
    sys.exit(status.code)


def _settings() -> WorkerSettings:
    try:
        settings = WorkerSettings.from_environment()
        policy_of(settings, frozenset())
    except SettingsError as error:
        _end(exit_status_for(error, redis=""))
    return settings


def _forget_celery_s_variables() -> None:
    """Take Celery's own variables out of the environment: there they win over what it is told here."""
    for name in [name for name in os.environ if name.startswith("CELERY_")]:
        del os.environ[name]


_forget_celery_s_variables()
settings = _settings()
dead_letters = DeadLetters(settings)


def configuration(settings: WorkerSettings) -> dict[str, Any]:
    """Celery's configuration: one queue, no results, no remote control, and limits that a half-open Redis calls for."""
    return {
        "broker_url": "redis://",  # the transport; where it leads is the endpoint below, so kombu reads no URL
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "global_keyprefix": names.CELERY_PREFIX,  # another Celery application in this database is not touched
            "priority_steps": MESSAGE_BUCKETS,
            "queue_order_strategy": "priority",
            # A launch takes milliseconds; a message that is not acknowledged by then was lost with its worker.
            "visibility_timeout": 30,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "endpoint": settings.redis,
        },
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_default_queue": settings.queue,
        "task_queues": [Queue(settings.queue)],
        "task_create_missing_queues": False,
        "worker_pool": "threads",
        "worker_concurrency": settings.concurrency,
        "worker_prefetch_multiplier": 1,
        "worker_consumer": "worker.queue.consumer:PodrelayConsumer",
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_enable_prefetch_count_reduction": False,
    }


TRANSPORT_ALIASES["redis"] = "worker.queue.consumer:Transport"
# Celery would print words for a terminal amid the log, also where that is JSON.
celery_worker.safe_say = lambda *_: None
app = Celery("podrelay", set_as_current=False)
app.conf.update(configuration(settings))


class SupervisorStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Starts the supervisor before the first message is consumed.

    It is on the worker's blueprint, not the consumer's, whose steps start anew with each reconnect.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._worker = worker
        use_dead_letters(dead_letters)
        supervisor = self._supervisor = Supervisor(settings, set_consuming=self._set_consuming)

        # No message is taken before start(), so no task runs before its supervisor.
        @app.task(name=names.LAUNCH_TASK, ignore_result=True, acks_late=True)  # type: ignore[untyped-decorator]
        def launch_task(job: str, deliveries: int) -> str:
            return launch(job, deliveries, claim=supervisor.launch, dead_letters=dead_letters)

        self._failure: BaseException | None = None
        self._is_asked_to_end = False
        self._on_ready = lambda **_: supervisor.tell_ready()
        signals.worker_ready.connect(self._on_ready)
        signals.worker_shutting_down.connect(self._on_shutting_down)
        signals.worker_shutdown.connect(self._on_shutdown)

    def start(self, worker: Any) -> None:
        try:
            self._serve_metrics()  # before a job can be its own
            self._supervisor.start()
        except Exception as error:
            self._failure = error
            raise WorkerShutdown(FAILED) from error

    def _serve_metrics(self) -> None:
        if port := settings.metrics_port:
            try:
                self._supervisor.metrics.serve(port)
            except (OSError, OverflowError) as error:
                raise SettingsError(f"PODRELAY_METRICS_PORT: cannot listen on port {port}: {error}") from error

    def _on_shutting_down(self, **_: Any) -> None:
        """Hand over after a signal; a supervisor that has failed sends one, too."""
        self._is_asked_to_end = True
        self._supervisor.begin_hand_over()

    def _on_shutdown(self, sender: Any, **_: Any) -> None:
        """Stop the supervisor and print why the process ends, unless it was asked to."""
        self._supervisor.stop()
        failure = self._failure or self._supervisor.failure
        if failure is None:
            if self._is_asked_to_end:
                sender.exitcode = 0
                return
            failure = PodrelayError("the worker failed: its log says why")
        status = exit_status_for(failure, redis=settings.redis.shown)
        if status.is_defect:
            log.critical("the worker failed", exc_info=failure)
        print_line(status)
        sender.exitcode = status.code

    def stop(self, worker: Any) -> None:
        # The pool drains after this: its last launches are claimed by nobody here, and by others from the record.
        self._supervisor.begin_hand_over()

    def _set_consuming(self, may_consume: bool) -> None:
        self._worker.consumer.set_consuming(settings.queue, may_consume=may_consume)


app.steps["worker"].add(SupervisorStep)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _setup_logging(**_: Any) -> None:
    configure_logging(settings)
