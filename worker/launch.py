"""The one Celery task: take a job, and be done in milliseconds.

It claims the job's record and hands it to the supervisor; whatever may go wrong after that is the record's business,
not the message's. A lost or repeated message does no harm.
"""

import structlog
from celery.exceptions import Reject

from dispatcher.spec import decode_spec
from worker.dead_letters import DeadLetters
from worker.gate import DELIVERIES, Refusal
from worker.supervisor import Supervisor

log = structlog.get_logger("podrelay.worker")


def launch(job: str, deliveries: int, *, supervisor: Supervisor, dead_letters: DeadLetters) -> str:
    """Launch the job of this id, or of this spec (JSON, from a publisher in another language).

    ``deliveries``: how often its message was taken before. Returns what the claim said.

    Raises:
        TimeoutError: the supervisor cannot claim it now; the sweep does when it can.
        Reject: there may be no record of the spec yet, and nobody else knows of it: its message goes back.
    """
    if not job.startswith("{"):
        return supervisor.launch(job).value
    try:
        return supervisor.launch(decode_spec(job)).value
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        if deliveries + 1 < DELIVERIES:
            log.warning("not launched, its message goes back", why=why)
            raise Reject(why, requeue=True) from error
        dead_letters.put(job.encode(), Refusal(f"cannot be launched, tried {DELIVERIES} times: {why}"))
        return "dead letter"
