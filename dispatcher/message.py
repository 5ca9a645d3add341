"""The queue message, byte for byte what a Celery 5.7 worker reads (message protocol 2 over kombu's Redis transport).

Written without celery and kombu, so that callers need neither, and so that the message is published in the same atomic
step that writes the record. A publisher in another language may write this message alone, with a whole spec as its one
argument: the worker then makes the record. Golden tests hold it to what Celery itself writes.
"""

import base64
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from dispatcher import names
from dispatcher.spec import SPEC_LIMIT_BYTES, Priority

#: The lists of a queue that a worker serves, as kombu's default has them; 0 is served first.
MESSAGE_BUCKETS = [0, 3, 6, 9]
PRIORITY_BUCKETS = {Priority.HIGH: 0, Priority.NORMAL: 3, Priority.LOW: 6}

#: A message, at most: the largest spec in base64, and what stands around it.
MESSAGE_LIMIT_BYTES: Final = SPEC_LIMIT_BYTES * 4 // 3 + 32 * 1024


def encode_message(job: str | Mapping[str, Any], *, queue: str, priority: Priority, origin: str = "podrelay") -> str:
    """Write the message that asks for a launch. ``job``: the id of a job that has a record, or a whole spec."""
    return json.dumps(launch_message(job, queue=queue, bucket=PRIORITY_BUCKETS[priority], origin=origin))


def launch_message(
    job: str | Mapping[str, Any], *, queue: str, bucket: int, origin: str = "podrelay"
) -> dict[str, Any]:
    """Make the message that :func:`encode_message` writes as JSON. ``bucket``: 0, 3, 6 or 9, in whose list it waits."""
    task_id = str(uuid.uuid4())
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[job], {}, embed], separators=(",", ":"))
    argument = job if isinstance(job, str) else job.get("id", "spec")
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": names.LAUNCH_TASK,
            "id": task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": f"('{argument}',)",
            "kwargsrepr": "{}",
            "origin": origin,
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": bucket,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }
