"""KPO's arguments as a pod's manifest, and the manifest as a job spec. Pure.

The pod is KPO's: the operator's arguments over ``full_pod_spec`` over the template. But the worker names it and adds
its own labels and the return value's sidecar, and the name of a secret's volume is derived: with a random one each try
would be another job.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from airflow_bridge.api_json import ApiObject, Json, objects, plain, texts, to_json
from airflow_bridge.kpo_merge import reconcile_pods, without_empty
from airflow_bridge.parameters import PARAMETERS, Arguments, JobField, PodArgumentsError, PodField
from airflow_bridge.task_identity import TaskIdentity

if TYPE_CHECKING:
    from dispatcher.spec import JobSpec


class Secret(Protocol):
    """The provider's ``Secret``, or anything like it: a secret as a variable, as all variables, or as a volume."""

    deploy_type: str
    deploy_target: str | None
    secret: str
    key: str | None


def pod_manifest(arguments: Arguments) -> Json:
    """Build the pod that KPO would ask for, without the task instance's labels.

    Raises:
        PodArgumentsError: an argument has the wrong type, or the template cannot be read.
    """
    try:
        pod = reconcile_pods(_template(arguments), _own_pod(arguments))
        for secret in arguments["secrets"]:
            _attach_secret(pod, secret)
    except (TypeError, AttributeError) as error:
        raise PodArgumentsError(f"these are no Kubernetes objects: {error}") from error
    metadata = pod["metadata"]
    metadata["labels"] = texts(metadata.get("labels"))
    metadata["annotations"] = texts(metadata.get("annotations"))
    manifest: Json = plain(without_empty(pod))
    return manifest


def _template(arguments: Arguments) -> Json:
    full, file, given = (arguments[name] for name in ("full_pod_spec", "pod_template_file", "pod_template_dict"))
    if file:
        template = _read_template(file)
    elif given:
        template = to_json(given)
    else:
        return ApiObject(to_json(full)) if full else ApiObject(metadata=ApiObject())
    return ApiObject(reconcile_pods(template, to_json(full)) if full else template)


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


def _own_pod(arguments: Arguments) -> Json:
    """Build the pod of the arguments alone; the table of parameters says where each one goes."""
    parts = {"metadata": ApiObject(), "spec": ApiObject(restartPolicy="Never"), "container": ApiObject()}
    for name, parameter in PARAMETERS.items():
        if not isinstance(parameter, PodField):
            continue
        part, _, field = parameter.path.partition(".")
        value = parameter.convert(arguments[name])
        if value is not None:
            before = parts[part].get(field)
            parts[part][field] = value if before is None else before + value
    parts["spec"]["containers"] = [parts["container"]]
    return ApiObject(apiVersion="v1", kind="Pod", metadata=parts["metadata"], spec=parts["spec"])


def _attach_secret(pod: Json, secret: Secret) -> None:
    """Add the secret to the first container, as the provider's ``attach_to_pod`` does."""
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


def _secret_volume(secret: Secret) -> tuple[Json, Json]:
    source: Json = {"secretName": secret.secret}
    items = objects(getattr(secret, "items", None) or ())
    if items:
        source["items"] = items
    digest = hashlib.sha256(repr((secret.secret, secret.deploy_target, items)).encode()).hexdigest()
    name = f"secretvol{digest[:32]}"
    return {"name": name, "secret": source}, {"name": name, "mountPath": secret.deploy_target, "readOnly": True}


def normal_name(name: str | None) -> str | None:
    """Make a pod's name as KPO does: in lower case, with a dash for what is no letter, digit or dash.

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


def job_spec(manifest: Json, arguments: Arguments, identity: TaskIdentity, *, defaults: Arguments) -> "JobSpec":
    """Build the job spec that asks for this pod. ``defaults``: the connection's queue and namespace.

    Raises:
        dispatcher.errors.InvalidSpecError: it cannot be run, e.g. it has no image.
    """
    from dispatcher.names import slug
    from dispatcher.spec import parse_spec

    metadata = dict(manifest.get("metadata") or {})
    name, namespace = metadata.pop("name", None), metadata.pop("namespace", None)
    labels, annotations = metadata.pop("labels", {}), metadata.pop("annotations", {})
    template = {**manifest, **({"metadata": metadata} if metadata else {})}
    if not metadata:
        template.pop("metadata", None)
    asked: Json = {
        "name": name or slug(identity.task_id, 63),
        "namespace": namespace or defaults.get("namespace"),
        "queue": arguments["podrelay_queue"] or defaults["queue"],
        "key": identity.key if arguments["durable"] else None,
        "base_container": arguments["base_container_name"],
        "pod_template": template,
        "labels": {**labels, **identity.labels},
        "volatile_labels": identity.volatile_labels,
        "annotations": annotations,
        "try_number": identity.try_number,
        "submitted_by": f"airflow {identity}",
        **{each.field: arguments[name] for name, each in PARAMETERS.items() if isinstance(each, JobField)},
        **_logs(arguments),
    }
    return parse_spec({**asked, **arguments["podrelay_options"]}, source=f"task {identity.task_id}")


def _logs(arguments: Arguments) -> Json:
    init = _containers(arguments["init_container_logs"]) or ()
    if not arguments["get_logs"]:
        # KPO shows the init containers' log even so.
        return {"container_logs": (), "init_container_logs": init} if init else {"get_logs": False}
    wanted = _containers(arguments["container_logs"])
    is_default = wanted == (arguments["base_container_name"],)
    return {"container_logs": None if is_default else wanted, "init_container_logs": init}


def _containers(wanted: Literal[True] | str | Iterable[str] | None) -> Literal["all"] | tuple[str, ...] | None:
    if wanted is True:
        return "all"
    if isinstance(wanted, str):
        return (wanted,)
    return tuple(wanted) if wanted else None
