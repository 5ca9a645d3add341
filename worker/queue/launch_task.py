"""The one Celery task: take a job, and be done in milliseconds.

It claims the job's record and hands it to the supervisor; whatever may go wrong after that is the record's business,
not the message's. A lost or repeated message does no harm.
"""

from collections.abc import Callable
from concurrent.futures import CancelledError

import structlog
from celery.exceptions import Reject

from dispatcher.errors import InvalidSpecError, JobIdTakenError
from dispatcher.spec import JobSpec, decode_spec
from dispatcher.steps import ClaimOutcome
from worker.queue.dead_letters import DeadLetters
from worker.queue.gate import DELIVERIES, Refusal

log = structlog.get_logger("podrelay.worker")

#: Claims the job of this id or spec, and has it launched.
Claim = Callable[[str | JobSpec], ClaimOutcome]


def launch(job: str, deliveries: int, *, claim: Claim, dead_letters: DeadLetters) -> str:
    """Launch the job of this id, or of this spec (JSON, from a publisher in another language).

    ``deliveries``: how often its message was taken before. Returns the claim's outcome, ``later``
    or ``dead letter``.

    Raises:
        Reject: there may be no record of the spec yet, and nobody else knows of it: its message goes back.
    """
    is_recorded = not job.startswith("{")
    try:
        return claim(job if is_recorded else decode_spec(job)).value
    except (InvalidSpecError, JobIdTakenError) as error:
        # No worker can record it, however often it is tried. (One that has a record raises neither.)
        dead_letters.put(job.encode(), Refusal(str(error)))
        return "dead letter"
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        is_defect = not isinstance(error, TimeoutError | CancelledError)
        log.warning("not launched now", why=why, exc_info=error if is_defect else None)
        if is_recorded:
            return "later"  # the sweep finds it
        if deliveries + 1 < DELIVERIES:
            raise Reject(why, requeue=True) from error
        dead_letters.put(job.encode(), Refusal(f"cannot be launched, tried {DELIVERIES} times: {why}"))
        return "dead letter"
