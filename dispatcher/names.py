"""Every key, channel, label and annotation name that two processes must agree on.

One installation is one Redis. All keys start with ``podrelay:``; Celery's own (message lists, ``unacked*``, bindings)
start with :data:`CELERY_PREFIX`, so that another Celery application in the same database is never touched.
"""

import hashlib
import re
from typing import Final

PREFIX: Final = "podrelay:"

#: kombu's ``global_keyprefix``.
CELERY_PREFIX: Final = "podrelay:celery:"

#: The one task of the worker. Its single argument is a job id, or a whole spec (a publisher in another language).
LAUNCH_TASK: Final = "podrelay.launch"

#: Random, made when absent: another value means that Redis was emptied.
GENERATION: Final = "podrelay:generation"

#: The largest return value, in bytes of JSON.
MAX_RETURN_VALUE_BYTES: Final = 1024 * 1024

LABEL_INSTALLATION: Final = "podrelay.dev/installation"
LABEL_QUEUE: Final = "podrelay.dev/queue"
LABEL_JOB: Final = "podrelay.dev/job"
LABEL_ATTEMPT: Final = "podrelay.dev/attempt"
LABEL_DONE: Final = "podrelay.dev/done"
#: KubernetesPodOperator's own, which dashboards and scripts select: of each of its pods, and of those that it keeps.
LABEL_OF_KPO: Final = "kubernetes_pod_operator"
LABEL_CHECKED_BY_KPO: Final = "already_checked"
ANNOTATION_DIGEST: Final = "podrelay.dev/spec-digest"
ANNOTATION_KEY: Final = "podrelay.dev/key"
ANNOTATION_SPEC: Final = "podrelay.dev/spec"
#: The same, compressed (zlib, base64), where it would be too long.
ANNOTATION_SPEC_ZLIB: Final = "podrelay.dev/spec-zlib"

#: The native sidecar that prints the return value, and where user code writes it (the same path as Airflow's provider).
RETURN_VALUE_CONTAINER: Final = "podrelay-return-value"
RETURN_VALUE_DIRECTORY: Final = "/airflow/xcom"
RETURN_VALUE_FILE: Final = "/airflow/xcom/return.json"


def job(job_id: str) -> str:
    """Key of the job's record (hash)."""
    return f"podrelay:job:{{{job_id}}}"


def events(job_id: str) -> str:
    """Key of the job's events (stream, never trimmed)."""
    return f"podrelay:events:{{{job_id}}}"


def log(job_id: str) -> str:
    """Key of the job's log chunks (stream, trimmed to the spec's ``log_limit_bytes``)."""
    return f"podrelay:log:{{{job_id}}}"


def log_room(memory_limit_bytes: int) -> str:
    """Key of how many bytes workers with this limit may append before they check Redis' memory again (string)."""
    return f"podrelay:log_room:{memory_limit_bytes}"


def bell(job_id: str) -> str:
    """Pub/Sub channel that rings after each append to the job's streams. It carries no data: a lost bell loses none."""
    return f"podrelay:bell:{{{job_id}}}"


def key(idempotency_key: str) -> str:
    """Key of the job id that an idempotency key stands for (string)."""
    return f"podrelay:key:{idempotency_key}"


def cursor(job_id: str, reader: str) -> str:
    """Key of a named reader's cursor (string), from which another process of the same reader goes on."""
    return f"podrelay:place:{{{job_id}}}:{reader}"


def active(queue: str) -> str:
    """Key of the queue's jobs that are not forgotten yet (sorted set: job id by submission time in seconds)."""
    return f"podrelay:queue:{queue}:active"


def recent(queue: str) -> str:
    """Key of the queue's jobs that ended (sorted set: job id by the time its record expires, in seconds)."""
    return f"podrelay:queue:{queue}:recent"


def workers(queue: str) -> str:
    """Key of the incarnations that serve the queue (hash: incarnation to JSON); the dead stay in it."""
    return f"podrelay:queue:{queue}:workers"


def dead_letters(queue: str) -> str:
    """Key of the queue's messages that no worker could understand (list of JSON: bytes as base64, reason, time)."""
    return f"podrelay:queue:{queue}:dead"


def dead_letters_size(queue: str) -> str:
    """Key of how many dead letters the queue has, and their bytes (string)."""
    return f"podrelay:queue:{queue}:dead:size"


def queues() -> str:
    """Key of every queue that was ever used (set)."""
    return "podrelay:queues"


def control(queue: str) -> str:
    """Pub/Sub channel that tells the queue's workers of cancels and hand-overs.

    What a lost message would have said, the heartbeat finds.
    """
    return f"podrelay:queue:{queue}:control"


def worker(incarnation: str) -> str:
    """Key of a worker's lease (string with a TTL)."""
    return f"podrelay:worker:{incarnation}"


def message_list(queue: str, priority: int) -> str:
    """Key of the list in which kombu looks for the queue's messages of this priority (0, 3, 6 or 9; 0 goes first)."""
    suffix = f"\x06\x16{priority}" if priority else ""
    return f"{CELERY_PREFIX}{queue}{suffix}"


def key_hash(idempotency_key: str) -> str:
    """Hash an idempotency key for a pod's annotation: enough to recognise it, nothing of its text."""
    return hashlib.sha256(idempotency_key.encode()).hexdigest()[:32]


def slug(name: str, max_length: int) -> str:
    """Turn any text into part of a DNS-1123 label: lower case, digits, inner dashes, at most ``max_length`` long."""
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return cleaned[:max_length].strip("-") or "job"


def pod_name(*, name: str, installation: str, job_id: str, attempt: int) -> str:
    """Name the one pod of an attempt: ``<slug>-<hash of installation and job id>-<attempt>``.

    At most 63 characters, so that it can also be a label value and a host name.
    """
    digest = hashlib.sha256(f"{installation}/{job_id}".encode()).hexdigest()[:10]
    tail = f"-{digest}-{attempt}"
    return slug(name, 63 - len(tail)) + tail
