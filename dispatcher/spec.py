"""The job spec: what a caller asks for.

Building one is strict: an unknown field is an error that names the nearest known one (:func:`parse_spec`). Fields that
hold Kubernetes objects take the API's own JSON, and the API server checks them (``fieldValidation=Strict``).

Precedence, lowest first: the worker's defaults, ``pod_template``, the fields of the spec, what podrelay itself must set
(name, labels and annotations of its own, the return-value sidecar). Fields merge into the template as Kubernetes'
strategic merge does: maps by key, containers, volumes and env by ``name``, volume mounts by ``mountPath``, other lists
are replaced; fields about one container (image, command, env …) go to the base container.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dispatcher.bounded_json import Taken, check_bounded, loads_bounded
from dispatcher.errors import InvalidSpecError
from dispatcher.plain_text import place_in, shown
from dispatcher.pod_shape import OBJECT_FIELDS, Written, shape_problems
from dispatcher.pod_types import OF_SPEC
from dispatcher.spec_problems import nearest as nearest
from dispatcher.spec_problems import problems_of
from dispatcher.status import FailureReason
from dispatcher.version import SINCE, VERSION, check_needed, is_older, latest, needed_version

#: A spec as JSON (:meth:`JobSpec.encode`), at most: what all annotations of a pod may hold together.
SPEC_LIMIT_BYTES: Final = 256 * 1024
#: Read from the wire, at most: more than any pod can hold that a version without that limit has made.
_READ_LIMIT_BYTES: Final = 4 * 1024 * 1024
#: Of each field: what is around it must fit into what readers take too.
_DEPTH_LIMIT: Final = 90
#: Top-level fields, at most; some 70 are known.
_FIELDS_LIMIT: Final = 200
#: Of all fields together, at most.
_ENTRIES_LIMIT: Final = 10_000
#: All annotations of a pod together, names and values, at most (``apimachinery``'s ``TotalAnnotationSizeLimitB``).
ANNOTATION_LIMIT_BYTES: Final = 256 * 1024
#: Of these for the spec's: podrelay's own (digest, key's hash) must have room.
USER_ANNOTATION_BYTES: Final = ANNOTATION_LIMIT_BYTES - 512

#: A Kubernetes object as the API writes it in JSON.
KubernetesObject = dict[str, Any]

QUEUE_NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
JOB_ID_PATTERN: Final = r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
QueueName = Annotated[str, StringConstraints(pattern=QUEUE_NAME_PATTERN)]
JobId = Annotated[str, StringConstraints(pattern=JOB_ID_PATTERN)]
ContainerName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Seconds = Annotated[float, Field(gt=0, le=366 * 86400)]


class Priority(StrEnum):
    """Which of a queue's waiting jobs goes first."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class OnFinish(StrEnum):
    """What becomes of the pod when the job has ended (the words and meanings of Airflow's provider)."""

    DELETE_POD = "delete_pod"
    KEEP_POD = "keep_pod"
    DELETE_SUCCEEDED_POD = "delete_succeeded_pod"
    DELETE_ACTIVE_POD = "delete_active_pod"  #: delete it only where containers still run


class _Writable(BaseModel):
    """Refuses what cannot be written as JSON, or carried by a pod, before it is looked at any closer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _can_be_written(cls, data: object) -> object:
        problems = []
        for name, value in data.items() if isinstance(data, Mapping) else ():
            taken = Taken.OBJECT if name in OBJECT_FIELDS and name != "env" else Taken.SPEC
            try:
                check_bounded(
                    value, max_nodes=_READ_LIMIT_BYTES, max_depth=_DEPTH_LIMIT, taken=taken, at=place_in("", name)
                )
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("\n".join(problems))
        return data


class EnvVar(_Writable):
    """One variable: a value, or a reference (``valueFrom`` as in the Kubernetes API: secret, config map, field)."""

    name: Annotated[str, StringConstraints(min_length=1)]
    value: str | None = None
    valueFrom: KubernetesObject | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.value is not None and self.valueFrom is not None:
            raise ValueError("give either value or valueFrom")
        return self


#: In a mapping of variables null is a mistake: `A:` in YAML is as much "not set" as it is "empty".
_NO_VALUE: Final = object()

#: Left out of the digest: they say who asks and when, and who is to do it, not what is asked.
_NOT_ASKED = frozenset({"id", "trace", "try_number", "volatile_labels", "submitted_by", "min_worker_version"})


class JobSpec(_Writable):
    """One job as a caller asks for it. ``digest`` identifies what is asked, apart from who asks and when."""

    id: JobId = Field(default_factory=lambda: uuid.uuid4().hex)
    key: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    queue: QueueName = "default"
    priority: Priority = Priority.NORMAL
    min_worker_version: str | None = None  #: None: the one that knows all its fields
    name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = "job"

    # The base container.
    base_container: ContainerName = "base"
    image: Annotated[str, StringConstraints(min_length=1)] | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    working_dir: str | None = None
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[KubernetesObject, ...] = ()
    ports: tuple[KubernetesObject, ...] = ()
    resources: KubernetesObject | None = None
    volume_mounts: tuple[KubernetesObject, ...] = ()
    container_security_context: KubernetesObject | None = None
    termination_message_policy: Literal["File", "FallbackToLogsOnError"] | None = None

    # The pod.
    namespace: str | None = None
    labels: dict[str, str] = {}
    volatile_labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    service_account_name: str | None = None
    automount_service_account_token: bool | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[KubernetesObject, ...] = ()
    affinity: KubernetesObject | None = None
    volumes: tuple[KubernetesObject, ...] = ()
    init_containers: tuple[KubernetesObject, ...] = ()
    containers: tuple[KubernetesObject, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    security_context: KubernetesObject | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    scheduler_name: str | None = None
    host_network: bool | None = None
    host_aliases: tuple[KubernetesObject, ...] = ()
    hostname: str | None = None
    subdomain: str | None = None
    dns_policy: str | None = None
    dns_config: KubernetesObject | None = None
    termination_grace_period_s: Annotated[int, Field(ge=0)] | None = None
    active_deadline_s: Annotated[int, Field(gt=0)] | None = None
    pod_template: KubernetesObject | None = None

    # Which containers' logs are published.
    get_logs: bool = True
    container_logs: Literal["all"] | tuple[ContainerName, ...] | None = None  #: None: the base container's
    init_container_logs: Literal["all"] | tuple[ContainerName, ...] = ()
    log_limit_bytes: Annotated[int, Field(ge=64 * 1024, le=1024**3)] = 16 * 1024 * 1024
    log_drain_timeout_s: Seconds = 30

    # Time limits, and what to do at the end.
    queue_timeout_s: Seconds = 86400
    startup_timeout_s: Seconds = 600  #: counts from when the pod has a node
    schedule_timeout_s: Seconds | None = None  #: None: a pod waits for a node as long as ``queue_timeout_s`` says
    image_pull_grace_s: Annotated[float, Field(ge=0)] = 60
    run_timeout_s: Seconds | None = None
    on_finish: OnFinish = OnFinish.DELETE_POD
    end_when: Literal["base", "all"] = "base"  #: which containers' ends are the job's end
    fail_on: Literal["base", "all"] | None = None  #: whose failures are the job's; None: as ``end_when`` says
    return_value: bool = False
    launch_retries: Annotated[int, Field(ge=0, le=100)] = 2
    retry_on: frozenset[FailureReason] = frozenset()
    retention_s: Seconds = 86400
    acknowledged_retention_s: Seconds = 3600

    # Who asks; not part of the digest.
    trace: dict[str, str] = {}
    try_number: int | None = None
    submitted_by: str | None = None

    @field_validator("env", mode="before")
    @classmethod
    def _env_from_mapping(cls, value: object) -> object:
        if isinstance(value, Mapping):
            return tuple(
                {"name": name, **v}
                if isinstance(v, Mapping)
                else {"name": name, "value": _NO_VALUE if v is None else v}
                for name, v in value.items()
            )
        return value

    @field_validator("min_worker_version", mode="before")
    @classmethod
    def _a_version(cls, value: object) -> object:
        if isinstance(value, int | float):
            raise ValueError(f'write it in quotes, "{shown(str(value))}": 0.10 as a number is 0.1')
        return check_needed(value) if isinstance(value, str) else value

    @field_validator("fail_on")
    @classmethod
    def _not_said_twice(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Leave out what ``end_when`` says already: to say it changes nothing, and so not the digest."""
        return None if value == info.data.get("end_when") else value

    @model_validator(mode="after")
    def _can_be_honoured(self, info: ValidationInfo) -> Self:
        asked = {name: getattr(self, name) for name in OF_SPEC} | {"env": [v.model_dump() for v in self.env]}
        problems = shape_problems(asked, (info.context or {}).get("written", {}))
        pod_spec = _mapping(_mapping(self.pod_template).get("spec"))
        if pod_spec.get("restartPolicy") not in (None, "Never"):
            problems.append("pod_template.spec.restartPolicy: only Never is accepted: a job is one run of its pod")
        if self.image is None and not _template_has_image(pod_spec, self.base_container):
            problems.append(f"image: required, unless pod_template has a container {self.base_container!r} with one")
        problems += _names_used_twice(pod_spec, self)
        if not self.get_logs and (self.container_logs is not None or self.init_container_logs):
            problems.append("get_logs: false contradicts container_logs and init_container_logs")
        if (size := self.annotation_bytes) > USER_ANNOTATION_BYTES:
            problems.append(
                f"annotations: {size} bytes in all, names and the template's included; a pod takes at most "
                f"{USER_ANNOTATION_BYTES} ({ANNOTATION_LIMIT_BYTES} without podrelay's own)"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def annotation_bytes(self) -> int:
        """How many bytes the pod's annotations have as asked, as the API server counts them."""
        of_template = _mapping(_mapping(_mapping(self.pod_template).get("metadata")).get("annotations"))
        asked = {**of_template, **self.annotations}
        return sum(len(str(text or "").encode("utf-8", "replace")) for pair in asked.items() for text in pair)

    @property
    def counts_all_failures(self) -> bool:
        """Whether the failure of another container than base fails the job."""
        return (self.fail_on or self.end_when) == "all"

    @property
    def needed_worker_version(self) -> str:
        """The version (``1.2.3``) that the job's worker must have; '' where any will do."""
        fields = JobSpec.model_fields
        used = (name for name in SINCE if getattr(self, name) != fields[name].default)
        return latest(filter(None, (needed_version(used), self.min_worker_version)))

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what is asked, without id, trace, try number, volatile labels and submitter."""
        text = json.dumps(self.asked(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def asked(self) -> dict[str, Any]:
        """Return what is asked, as JSON: the fields that have not their default value, without who asks and when."""
        asked = self.model_dump(mode="json", exclude=set(_NOT_ASKED), exclude_defaults=True)
        if "retry_on" in asked:
            asked["retry_on"] = sorted(asked["retry_on"])
        return asked

    def encode(self) -> str:
        """Write the spec as JSON for the wire, without the fields that have their default value; the id always."""
        return json.dumps({"id": self.id, **self.model_dump(mode="json", exclude_defaults=True)}, separators=(",", ":"))


class _CarriedSpec(JobSpec):
    """A spec that asks for a newer worker than this one: what this version does not know of it is kept for that one."""

    model_config = ConfigDict(frozen=True, extra="allow")


def _kind_of(data: Mapping[str, Any]) -> type[JobSpec]:
    needed = data.get("min_worker_version")
    return _CarriedSpec if isinstance(needed, str) and is_older(VERSION, needed) else JobSpec


def differing_fields(one: JobSpec, other: JobSpec) -> list[str]:
    """Name the fields in which two specs ask for different things, apart from who asks and when."""
    asked, also = one.asked(), other.asked()
    return sorted(name for name in asked.keys() | also.keys() if asked.get(name) != also.get(name))


def _mapping(value: object) -> KubernetesObject:
    return value if isinstance(value, dict) else {}


def _template_has_image(pod_spec: KubernetesObject, base_container: str) -> bool:
    containers = pod_spec.get("containers")
    return isinstance(containers, list) and any(
        isinstance(c, dict) and c.get("name") == base_container and c.get("image") for c in containers
    )


def _names_used_twice(pod_spec: KubernetesObject, spec: JobSpec) -> Iterator[str]:
    """Find init containers that have a container's name, where both come from: fields and template."""
    plain = {spec.base_container, *_names(pod_spec.get("containers")), *_names(spec.containers)}
    for name in sorted(plain & {*_names(pod_spec.get("initContainers")), *_names(spec.init_containers)}):
        yield f"init_containers: {name}: a container has this name already: give each a name of its own"


def _names(containers: object) -> set[str]:
    members = containers if isinstance(containers, list | tuple) else ()
    return {m["name"] for m in members if isinstance(m, dict) and isinstance(m.get("name"), str)}


def parse_spec(
    data: Mapping[str, Any], source: str = "spec", *, is_for_others: bool = False, written: Written | None = None
) -> JobSpec:
    """Make a spec from plain data (YAML, JSON, keyword arguments).

    ``is_for_others``: where it asks for a worker that is newer than this version, its unknown fields are kept.
    ``written``: how values that are no texts stand in the file that they come from, by their places.

    Raises:
        InvalidSpecError: with one problem per mistake (the first ten): its path, and the nearest known name for a
            misspelled field.
    """
    if problems := _too_many(data):
        raise InvalidSpecError(problems, source)
    spec = _validated(data, source, _kind_of(data) if is_for_others else JobSpec, written)
    if (size := len(spec.encode())) > SPEC_LIMIT_BYTES:
        text = f"{size} bytes as JSON, at most {SPEC_LIMIT_BYTES} are taken: put data into a config map, or a volume"
        raise InvalidSpecError([text], source)
    return spec


def decode_spec(text: str | bytes) -> JobSpec:
    """Read a spec from the wire. Reading is lenient: fields of a newer version pass, and are ignored.

    They are kept where the spec asks for such a version: another worker runs it.

    Raises:
        InvalidSpecError: what is there is no spec.
    """
    try:
        data = loads_bounded(text if isinstance(text, bytes) else text.encode(), max_bytes=_READ_LIMIT_BYTES)
    except ValueError as error:
        raise InvalidSpecError([f"not JSON: {error}"]) from error
    if not isinstance(data, dict):
        raise InvalidSpecError(["must be a JSON object"])
    if (kind := _kind_of(data)) is JobSpec:
        data = {name: value for name, value in data.items() if name in JobSpec.model_fields}
    return _validated(data, "spec", kind)


def _too_many(data: Mapping[str, Any]) -> list[str]:
    """Refuse what would take long to check only to find that all of it is wrong."""
    if len(data) > _FIELDS_LIMIT:
        return [f"{len(data)} fields: no spec has more than {_FIELDS_LIMIT}"]
    entries = {name: len(value) for name, value in data.items() if isinstance(value, Mapping | list | tuple)}
    if sum(entries.values()) <= _ENTRIES_LIMIT:
        return []
    longest = max(entries, key=lambda name: entries[name])
    return [f"{shown(str(longest))}: {entries[longest]} entries, at most {_ENTRIES_LIMIT} are taken of all fields"]


def _validated(data: Mapping[str, Any], source: str, kind: type[JobSpec], written: Written | None = None) -> JobSpec:
    try:
        return kind.model_validate(dict(data), context={"written": written or {}})
    except ValidationError as error:
        known = {"": JobSpec.model_fields, "env": EnvVar.model_fields}
        raise InvalidSpecError(problems_of(error, data, known, written or {}), source) from None
