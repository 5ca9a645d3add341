"""The one Celery task: take a job, and be done in milliseconds.

It claims the job's record and hands it to the supervisor; whatever may go wrong after that is the record's business,
not the message's. A lost or repeated message does no harm.
"""

import json
from typing import Any

import structlog

from dispatcher.errors import InvalidSpecError
from dispatcher.spec import JobSpec, parse_spec
from worker.dead_letters import DeadLetters
from worker.supervisor import Supervisor

log = structlog.get_logger("podrelay.worker")


def launch(job: Any, *, supervisor: Supervisor, dead_letters: DeadLetters) -> str:
    """Launch the job of this id, or of this spec (a publisher in another language). Returns what the claim said.

    Raises:
        TimeoutError: the supervisor cannot claim it now; the sweep does when it can.
    """
    if isinstance(job, str):
        return supervisor.launch(job).value
    spec = _spec(job, supervisor.settings.queue, dead_letters)
    return supervisor.launch(spec).value if spec else "dead letter"


def _spec(job: Any, queue: str, dead_letters: DeadLetters) -> JobSpec | None:
    try:
        if not isinstance(job, dict):
            raise InvalidSpecError(["the task's one argument must be a job id or a spec (a JSON object)"], "message")
        # The queue a message came by is the job's queue, whatever the spec says.
        return parse_spec({**job, "queue": queue}, "message")
    except InvalidSpecError as error:
        dead_letters.put(json.dumps(job).encode(), str(error))
        return None
