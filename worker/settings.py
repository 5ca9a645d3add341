"""The worker process' settings: the dispatcher's, and what only a worker knows."""

import os
import socket
import string
from typing import Annotated, Final, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, StringConstraints, field_validator
from pydantic_settings import NoDecode

from dispatcher.settings import ClientSettings

#: What a template of log URLs may name.
LOG_URL_NAMES: Final = ("namespace", "pod", "pod_uid", "container", "job_id", "attempt")


class WorkerSettings(ClientSettings):
    """The worker's settings, read from ``PODRELAY_*`` once, at the process' entry point.

    ``KUBECONFIG`` or the in-cluster configuration says which cluster.
    """

    worker_name: str = Field(default_factory=socket.gethostname)
    namespaces: Annotated[tuple[str, ...], NoDecode] = ()  #: served; default: the default namespace only
    default_namespace: str | None = None  #: for specs that name none; default: the context's, or the worker's own
    pod_security: Literal["privileged", "baseline", "restricted"] = "baseline"  #: of the Pod Security Standards
    pod_security_exempt: Annotated[tuple[str, ...], NoDecode] = ()  #: controls that do not count, or one value of one
    max_jobs: PositiveInt = 2000
    concurrency: PositiveInt = 8  #: Celery threads; a launch holds one for milliseconds
    lease_s: PositiveFloat = 10.0
    heartbeat_s: PositiveFloat = 3.0
    sweep_s: PositiveFloat = 2.0
    api_away_s: PositiveFloat = 5.0  #: a worker whose API server is away for so long takes no jobs
    api_connections: PositiveInt = (
        32  #: short requests to the API server at a time; log streams and watches come on top
    )
    log_buffer_bytes: PositiveInt = 256 * 1024 * 1024  #: for all jobs together, while Redis cannot take their logs
    redis_memory_limit_bytes: NonNegativeInt = 0  #: stop appending log beyond this; 0: 95 % of Redis' maxmemory
    return_value_image: Annotated[str, StringConstraints(min_length=1)] = "busybox:1.37"
    log_url_template: str | None = None
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    metrics_port: NonNegativeInt = 0  #: Prometheus; 0: none

    @field_validator("namespaces", "pod_security_exempt", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("log_url_template")
    @classmethod
    def _names_what_there_is(cls, value: str | None) -> str | None:
        """Check that the template names only what exists: one that fails would fail at each job's end."""
        if value is not None:
            fields = [(name, spec or "") for _, name, spec, _ in string.Formatter().parse(value) if name is not None]
            if unknown := [name for name, spec in fields if name not in LOG_URL_NAMES or "{" in spec]:
                known = ", ".join(f"{{{name}}}" for name in LOG_URL_NAMES)
                raise ValueError(f"{{{unknown[0]}}} cannot be put there; known are {known}")
            value.format_map(dict.fromkeys(LOG_URL_NAMES, "") | {"attempt": 1})
        return value


def new_incarnation(settings: WorkerSettings) -> str:
    """Name one life of a worker: two lives of the same worker are two owners."""
    return f"{settings.worker_name}-{os.getpid()}-{os.urandom(4).hex()}"
