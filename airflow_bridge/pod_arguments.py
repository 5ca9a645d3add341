"""KPO's arguments as a pod, and the pod as a job spec. Pure.

The pod is built as KPO builds it (operator's arguments over ``full_pod_spec`` over the template); what must differ: the
worker names the pod, adds its own labels and the return value's sidecar, and a secret's volume has a name that does not
change between tries, because a random one would make every try another job.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_bridge.api_json import ApiObject, objects, plain, texts, to_json
from airflow_bridge.reconcile import Json, reconcile_pods, without_empty
from airflow_bridge.task_identity import TaskIdentity

if TYPE_CHECKING:
    from dispatcher.spec import JobSpec


class PodArgumentsError(ValueError):
    """An argument that KPO would refuse too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodArguments:
    """What an operator's user said about the pod, after rendering. The names are KPO's."""

    task_id: str
    name: str | None
    namespace: str | None
    image: str | None
    cmds: list[str]
    arguments: list[str]
    ports: list[Any]
    volume_mounts: list[Any]
    volumes: list[Any]
    env_vars: Any
    env_from: list[Any]
    configmaps: list[str]
    secrets: list[Any]
    pod_runtime_info_envs: list[Any]
    labels: dict[str, Any]
    annotations: dict[str, Any]
    base_container_name: str
    image_pull_policy: str | None
    container_resources: Any
    affinity: Any
    runtime_class_name: str | None
    node_selector: dict[str, str]
    image_pull_secrets: Any
    service_account_name: str | None
    automount_service_account_token: bool | None
    hostnetwork: bool
    host_aliases: list[Any] | None
    tolerations: list[Any]
    security_context: Any
    container_security_context: Any
    dnspolicy: str | None
    dns_config: Any
    hostname: str | None
    subdomain: str | None
    schedulername: str | None
    full_pod_spec: Any
    init_containers: list[Any]
    pod_template_file: str | None
    pod_template_dict: dict[str, Any] | None
    priority_class_name: str | None
    termination_grace_period: int | None
    termination_message_policy: str
    active_deadline_seconds: int | None

    @classmethod
    def of(cls, operator: Any) -> "PodArguments":
        """The operator's attributes of these names."""
        return cls(**{field.name: getattr(operator, field.name) for field in fields(cls)})


def pod_manifest(arguments: PodArguments) -> Json:
    """The pod as KPO would ask for it, as the API writes it, without the task instance's labels.

    Raises:
        PodArgumentsError: an argument has the wrong type, or the template cannot be read.
    """
    try:
        pod = reconcile_pods(_template(arguments), _own_pod(arguments))
        for secret in arguments.secrets:
            _attach_secret(pod, secret)
    except (TypeError, AttributeError) as error:
        raise PodArgumentsError(f"these are no Kubernetes objects: {error}") from error
    metadata = pod["metadata"]
    metadata["labels"] = texts(metadata.get("labels"))
    metadata["annotations"] = texts(metadata.get("annotations"))
    manifest: Json = plain(without_empty(pod))
    return manifest


def _template(arguments: PodArguments) -> Json:
    if arguments.pod_template_file:
        template = _read_template(arguments.pod_template_file)
    elif arguments.pod_template_dict:
        template = to_json(arguments.pod_template_dict)
    elif arguments.full_pod_spec:
        return ApiObject(to_json(arguments.full_pod_spec))
    else:
        return ApiObject(metadata=ApiObject())
    if arguments.full_pod_spec:
        template = reconcile_pods(template, to_json(arguments.full_pod_spec))
    return ApiObject(template)


def _read_template(path: str) -> Json:
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise PodArgumentsError(f"pod_template_file {path!r} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise PodArgumentsError(f"pod_template_file {path!r} holds no pod")
    found = to_json(found)
    return dict(found)


def _own_pod(a: PodArguments) -> Json:
    spec = {
        "runtimeClassName": a.runtime_class_name,
        "nodeSelector": to_json(a.node_selector),
        "affinity": to_json(a.affinity),
        "tolerations": objects(a.tolerations),
        "initContainers": objects(a.init_containers),
        "hostAliases": objects(a.host_aliases),
        "containers": [_base_container(a)],
        "imagePullSecrets": _pull_secrets(a.image_pull_secrets),
        "serviceAccountName": a.service_account_name,
        "automountServiceAccountToken": a.automount_service_account_token,
        "hostNetwork": a.hostnetwork,
        "hostname": a.hostname,
        "subdomain": a.subdomain,
        "securityContext": to_json(a.security_context),
        "dnsPolicy": a.dnspolicy,
        "dnsConfig": to_json(a.dns_config),
        "schedulerName": a.schedulername,
        "restartPolicy": "Never",
        "priorityClassName": a.priority_class_name,
        "volumes": objects(a.volumes),
        "activeDeadlineSeconds": a.active_deadline_seconds,
        "terminationGracePeriodSeconds": a.termination_grace_period,
    }
    metadata = {
        "name": a.name,
        "namespace": a.namespace,
        "labels": texts(a.labels),
        "annotations": texts(a.annotations),
    }
    return ApiObject(apiVersion="v1", kind="Pod", metadata=_given(metadata), spec=_given(spec))


def _base_container(a: PodArguments) -> Json:
    return _given(
        {
            "name": a.base_container_name,
            "image": a.image,
            "command": list(a.cmds),
            "args": list(a.arguments),
            "ports": objects(a.ports),
            "imagePullPolicy": a.image_pull_policy,
            "resources": to_json(a.container_resources),
            "volumeMounts": objects(a.volume_mounts),
            "env": env_variables(a.env_vars) + objects(a.pod_runtime_info_envs),
            "envFrom": objects(a.env_from) + [{"configMapRef": {"name": name}} for name in a.configmaps],
            "securityContext": to_json(a.container_security_context),
            "terminationMessagePolicy": a.termination_message_policy,
        }
    )


def _given(fields_: Mapping[str, Any]) -> Json:
    return ApiObject({name: value for name, value in fields_.items() if value is not None})


def env_variables(env_vars: Any) -> list[Json]:
    """``env_vars`` as a list of variables: a mapping of texts, or a list of objects."""
    if isinstance(env_vars, Mapping):
        return [{"name": name, "value": value} for name, value in env_vars.items()]
    if isinstance(env_vars, list | tuple):
        return objects(env_vars)
    raise PodArgumentsError(f"env_vars: expected a dict or a list, got {type(env_vars).__name__}")


def _pull_secrets(given: Any) -> list[Json]:
    if isinstance(given, str):
        return [{"name": name} for name in given.split(",")]
    return objects(given)


def _attach_secret(pod: Json, secret: Any) -> None:
    """The provider's ``Secret`` (or anything like it), as its ``attach_to_pod`` does: into the first container."""
    container = pod["spec"]["containers"][0]
    if secret.deploy_type == "volume":
        volume, mount = _secret_volume(secret)
        pod["spec"]["volumes"] = [*(pod["spec"].get("volumes") or []), volume]
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]
    elif secret.key is not None:
        reference = {"secretKeyRef": {"name": secret.secret, "key": secret.key}}
        variable = {"name": secret.deploy_target, "valueFrom": reference}
        container["env"] = [*(container.get("env") or []), variable]
    else:
        container["envFrom"] = [*(container.get("envFrom") or []), {"secretRef": {"name": secret.secret}}]


def _secret_volume(secret: Any) -> tuple[Json, Json]:
    source = {"secretName": secret.secret}
    items = objects(getattr(secret, "items", None) or ())
    if items:
        source["items"] = items
    digest = hashlib.sha256(repr((secret.secret, secret.deploy_target, items)).encode()).hexdigest()
    name = f"secretvol{digest[:32]}"
    return {"name": name, "secret": source}, {"name": name, "mountPath": secret.deploy_target, "readOnly": True}


def normal_name(name: str | None) -> str | None:
    """The name as KPO makes it: lower case, anything but letters, digits and dashes replaced by a dash.

    Raises:
        PodArgumentsError: it is longer than 220 characters, or has characters that Airflow's keys may not have.
    """
    if name is None:
        return None
    if not isinstance(name, str) or len(name) > 220 or not re.fullmatch(r"[\w.-]+", name):
        raise PodArgumentsError(
            f"name: must be at most 220 letters, digits, dashes, dots and underscores, got {name!r}"
        )
    return re.sub(r"[^a-z0-9-]+", "-", name.lower())


Containers = Literal[True] | str | Iterable[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobArguments:
    """What an operator's user said about the job around the pod. The names are KPO's."""

    do_xcom_push: bool
    get_logs: bool
    container_logs: Any
    init_container_logs: Any
    startup_timeout_seconds: float
    schedule_timeout_seconds: float | None
    on_finish_action: str
    durable: bool
    podrelay_queue: str | None
    podrelay_options: dict[str, Any]

    @classmethod
    def of(cls, operator: Any) -> "JobArguments":
        """The operator's attributes of these names."""
        return cls(**{field.name: getattr(operator, field.name) for field in fields(cls)})


def job_spec(
    manifest: Json, job: JobArguments, identity: TaskIdentity, *, base_container: str, defaults: Mapping[str, Any]
) -> "JobSpec":
    """The job that asks for this pod. ``defaults`` are the connection's: queue and namespace where none is said.

    Raises:
        dispatcher.errors.InvalidSpecError: it cannot be honoured, e.g. it has no image.
    """
    from dispatcher.names import slug
    from dispatcher.spec import parse_spec

    metadata = dict(manifest.get("metadata") or {})
    name, namespace = metadata.pop("name", None), metadata.pop("namespace", None)
    labels, annotations = metadata.pop("labels", {}), metadata.pop("annotations", {})
    template = {**manifest, **({"metadata": metadata} if metadata else {})}
    if not metadata:
        template.pop("metadata", None)
    asked: dict[str, Any] = {
        "name": name or slug(identity.task_id, 63),
        "namespace": namespace or defaults.get("namespace"),
        "queue": job.podrelay_queue or defaults["queue"],
        "key": identity.key if job.durable else None,
        "base_container": base_container,
        "pod_template": template,
        "labels": {**labels, **identity.labels},
        "volatile_labels": identity.volatile_labels,
        "annotations": annotations,
        "return_value": job.do_xcom_push,
        "startup_timeout_s": job.startup_timeout_seconds,
        "schedule_timeout_s": job.schedule_timeout_seconds,
        "on_finish": str(job.on_finish_action),
        "try_number": identity.try_number,
        "submitted_by": f"airflow {identity}",
        **_logs(job, base_container),
    }
    return parse_spec({**asked, **job.podrelay_options}, source=f"task {identity.task_id}")


def _logs(job: JobArguments, base_container: str) -> dict[str, Any]:
    init = _containers(job.init_container_logs) or ()
    if not job.get_logs:
        # KPO shows the init containers' log even so.
        return {"container_logs": (), "init_container_logs": init} if init else {"get_logs": False}
    wanted = _containers(job.container_logs)
    return {"container_logs": None if wanted == (base_container,) else wanted, "init_container_logs": init}


def _containers(wanted: Containers) -> Any:
    if wanted is True:
        return "all"
    if isinstance(wanted, str):
        return (wanted,)
    return tuple(wanted) if wanted else None
