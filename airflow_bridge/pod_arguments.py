"""KPO's arguments as a pod's manifest, and the manifest as a job spec. Pure.

The pod is KPO's: the operator's arguments over ``full_pod_spec`` over the template. But the worker names it and adds
its own labels and the return value's sidecar, and the name of a secret's volume is derived: with a random one each try
would be another job.
"""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, cast

from airflow_bridge.api_json import ApiObject, Json, plain
from airflow_bridge.argument_values import (
    PodArgumentsError,
    api_object,
    api_objects,
    members,
    text,
    texts,
    texts_by_name,
)
from airflow_bridge.kpo_merge import reconcile_pods, without_empty
from airflow_bridge.kubernetes_object import KubernetesObject, kubernetes_object
from airflow_bridge.parameters import PARAMETERS, Arguments, JobField, PodField
from airflow_bridge.task_identity import TaskIdentity
from dispatcher.pod_shape import shape_problems

if TYPE_CHECKING:
    from dispatcher.spec import JobSpec


#: The parameters that are whole pods, the first over the others.
TEMPLATES: Final = ("full_pod_spec", "pod_template_file", "pod_template_dict")


class Secret(Protocol):
    """The provider's ``Secret``, or anything like it: a secret as a variable, as all variables, or as a volume."""

    deploy_type: str
    deploy_target: str | None
    secret: str
    key: str | None


def pod_of(arguments: Arguments) -> KubernetesObject:
    """Build the pod that KPO would ask for, without the task instance's labels; what KPO leaves empty is empty.

    Raises:
        PodArgumentsError: an argument is no such thing as is meant, or the template cannot be read; it says which.
    """
    pod = reconcile_pods(_template(arguments), _own_pod(arguments))
    for secret in _secrets(arguments):
        _attach_secret(pod, secret)
    return _with_texts(pod)


def as_pod(returned: object) -> KubernetesObject:
    """Read what a subclass has made of its pod: ours, a dict, the client's ``V1Pod``, or a mixture.

    Raises:
        PodArgumentsError: it is no pod; it says where.
    """
    if returned is None:
        raise PodArgumentsError("build_pod_request_obj: must return the pod, and has returned None")
    return _with_texts(api_object("build_pod_request_obj", returned) or {})


def manifest_of(pod: object) -> Json:
    """Return the manifest that a pod asks for, as JSON without what is empty."""
    manifest: Json = plain(without_empty(as_pod(pod)))
    return manifest


def _with_texts(pod: Json) -> KubernetesObject:
    metadata = pod["metadata"] = api_object("metadata of the pod", pod.get("metadata")) or {}
    for name in ("labels", "annotations"):
        metadata[name] = texts_by_name(name, metadata.get(name))
    return kubernetes_object("V1Pod", pod)


def _template(arguments: Arguments) -> Json:
    full, file, given = (arguments[name] for name in TEMPLATES)
    if file:
        template = _deserialized("pod_template_file", _read_template(file))
    elif given:
        template = _deserialized("pod_template_dict", given)
    else:
        return ApiObject(_shaped("full_pod_spec", full)) if full else ApiObject(metadata=ApiObject())
    return ApiObject(reconcile_pods(template, _shaped("full_pod_spec", full)) if full else template)


def _shaped(name: str, value: object) -> Json:
    """Read a pod and make sure that the merge finds lists where there must be lists."""
    pod = api_object(name, value) or {}
    if problems := shape_problems({"pod_template": pod}):
        raise PodArgumentsError("; ".join(name + problem.removeprefix("pod_template") for problem in problems))
    return pod


def _deserialized(name: str, value: object) -> Json:
    return kubernetes_object("V1Pod", _shaped(name, value), are_dicts_objects=True)


def _read_template(path: object) -> Json:
    import yaml

    if not isinstance(path, str | os.PathLike):
        raise PodArgumentsError(
            f"pod_template_file: must be a path, not {type(path).__name__}; a dict goes into pod_template_dict"
        )
    try:
        found = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise PodArgumentsError(f"pod_template_file {_shown(path)} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise PodArgumentsError(f"pod_template_file {_shown(path)} holds no pod")
    return found


def _shown(path: object) -> str:
    return repr(str(path)[:200])


def _own_pod(arguments: Arguments) -> Json:
    """Build the pod of the arguments alone; the table of parameters says where each one goes."""
    parts = {"metadata": ApiObject(), "spec": ApiObject(restartPolicy="Never"), "container": ApiObject()}
    for name, parameter in PARAMETERS.items():
        if not isinstance(parameter, PodField) or arguments[name] is None:
            continue
        part, _, field = parameter.path.partition(".")
        value: Any = parameter.convert(name, arguments[name])
        if value is not None:
            before = parts[part].get(field)
            parts[part][field] = value if before is None else before + value
    parts["spec"]["containers"] = [parts["container"]]
    return ApiObject(apiVersion="v1", kind="Pod", metadata=parts["metadata"], spec=parts["spec"])


def _secrets(arguments: Arguments) -> Iterator[Secret]:
    for i, secret in enumerate(members("secrets", arguments["secrets"], "Secret objects")):
        if missing := [each for each in ("deploy_type", "deploy_target", "secret", "key") if not hasattr(secret, each)]:
            raise PodArgumentsError(
                f"secrets[{i}]: must be a Secret, not {type(secret).__name__}, which has no {', '.join(missing)}"
            )
        yield cast("Secret", secret)


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
    items = api_objects("secrets: items", getattr(secret, "items", None))
    if items:
        source["items"] = items
    digest = hashlib.sha256(repr((secret.secret, secret.deploy_target, items)).encode()).hexdigest()
    name = f"secretvol{digest[:32]}"
    return {"name": name, "secret": source}, {"name": name, "mountPath": secret.deploy_target, "readOnly": True}


def normal_name(name: object) -> str | None:
    """Make a pod's name as KPO does: in lower case, with a dash for what is no letter, digit or dash.

    Raises:
        PodArgumentsError: it is longer than 220 characters, or has characters that Airflow's keys may not have.
    """
    given = text("name", name)
    if given is None:
        return None
    if len(given) > 220 or not re.fullmatch(r"[\w.-]+", given):
        raise PodArgumentsError(
            f"name: must be at most 220 letters, digits, dashes, dots and underscores, got {given[:230]!r}"
        )
    return re.sub(r"[^a-z0-9-]+", "-", given.lower())


def job_spec(pod: object, arguments: Arguments, identity: TaskIdentity, *, defaults: Arguments) -> "JobSpec":
    """Build the job spec that asks for this pod. ``defaults``: the connection's queue and namespace.

    The task instance's labels may be in the pod already, as a subclass has left them.

    Raises:
        dispatcher.errors.InvalidSpecError: it cannot be run, e.g. it has no image; each problem names its argument.
        PodArgumentsError: as :func:`pod_of` and :func:`as_pod`.
    """
    from dispatcher.errors import InvalidSpecError
    from dispatcher.names import slug
    from dispatcher.spec import parse_spec

    manifest = manifest_of(pod)
    metadata = dict(manifest.get("metadata") or {})
    name, namespace = metadata.pop("name", None), metadata.pop("namespace", None)
    labels, annotations = metadata.pop("labels", None) or {}, metadata.pop("annotations", None) or {}
    template = {**manifest, **({"metadata": metadata} if metadata else {})}
    if not metadata:
        template.pop("metadata", None)
    volatile = identity.volatile_labels
    asked: Json = {
        "name": name or slug(identity.task_id, 63),
        "namespace": namespace or defaults.get("namespace"),
        "queue": text("podrelay_queue", arguments["podrelay_queue"]) or defaults["queue"],
        "key": identity.key if arguments["durable"] else None,
        "base_container": text("base_container_name", arguments["base_container_name"]),
        "pod_template": template,
        "labels": {**identity.labels, **{n: v for n, v in labels.items() if volatile.get(n) != v}},
        "volatile_labels": volatile,
        "annotations": annotations,
        "try_number": identity.try_number,
        "submitted_by": f"airflow {identity}",
        **{each.field: arguments[name] for name, each in PARAMETERS.items() if isinstance(each, JobField)},
        **_logs(arguments),
    }
    options, source = _dict("podrelay_options", arguments), f"task {identity.task_id}"
    _dict("trigger_kwargs", arguments)  # of which the triggerer would know only when the job runs
    try:
        spec = parse_spec({**asked, **options}, source=source)
        ends = _end(spec)
        return parse_spec({**asked, **ends, **options}, source=source) if ends else spec
    except InvalidSpecError as error:
        raise InvalidSpecError([_with_argument(each, arguments) for each in error.problems], error.source) from None


def _dict(name: str, arguments: Arguments) -> Mapping[str, Any]:
    value = arguments[name]
    if not isinstance(value, Mapping | None):
        raise PodArgumentsError(f"{name}: must be a dict, not {value!r:.60}")
    return value or {}


def _with_argument(problem: str, arguments: Arguments) -> str:
    """Name the task's arguments of which a problem of the spec tells: its path is the job's, not the user's."""
    path = re.match(r"[^:\s]*", problem)[0]  # type: ignore[index]  # it matches in any case
    if path.partition(".")[0] in arguments["podrelay_options"]:
        return f"podrelay_options: {problem}"
    owners = [name for name, its in _PATHS.items() if re.match(re.escape(its) + r"(?![\w])", path)]
    if path.startswith(("pod_template", "labels", "annotations")):
        owners += TEMPLATES
    given = [name for name in owners if arguments[name]]
    return f"{problem} (comes from {' or '.join(given)})" if given and given != [path] else problem


def _path_in_spec(parameter: PodField | JobField) -> str:
    if isinstance(parameter, JobField):
        return parameter.field
    part, _, field = parameter.path.partition(".")
    return {"metadata": field, "spec": f"pod_template.spec.{field}"}.get(
        part, f"pod_template.spec.containers[0].{field}"
    )


#: Where the job spec has what an argument gives.
_PATHS: Final = {
    **{name: _path_in_spec(each) for name, each in PARAMETERS.items() if isinstance(each, PodField | JobField)},
    "podrelay_queue": "queue",
    "base_container_name": "base_container",
    "container_logs": "container_logs",
    "init_container_logs": "init_container_logs",
    "secrets": "pod_template.spec.volumes",
}


def _logs(arguments: Arguments) -> Json:
    init = _containers("init_container_logs", arguments) or ()
    if not arguments["get_logs"]:
        # KPO shows the init containers' log even so.
        return {"container_logs": (), "init_container_logs": init} if init else {"get_logs": False}
    wanted = _containers("container_logs", arguments)
    is_default = wanted == (arguments["base_container_name"],)
    return {"container_logs": None if is_default else wanted, "init_container_logs": init}


def _end(spec: "JobSpec") -> Json:
    """Say when the job ends where its pod has more containers than base: when KPO's task does, and as it does.

    KPO waits for the pod's end, and fails where any plain container failed. Where it reads an XCom it looks at the base
    container alone, once it has followed the logs that it is asked for to their ends. (Its exception for Istio depends
    on what admission adds to the pod, so the worker knows it: :mod:`worker.rules.job_end`.)
    """
    template = (spec.pod_template or {}).get("spec") or {}
    containers = (*(template.get("containers") or ()), *spec.containers)
    others = {container["name"] for container in containers} - {spec.base_container}
    if not others:
        return {}  # nothing that an older worker does not know
    if not spec.return_value:
        return {"end_when": "all"}
    is_followed = spec.get_logs and (spec.container_logs == "all" or others <= set(spec.container_logs or ()))
    return {"end_when": "all", "fail_on": "base"} if is_followed else {}


def _containers(name: str, arguments: Arguments) -> Literal["all"] | tuple[str, ...] | None:
    match arguments[name]:
        case True:
            return "all"
        case str() as one:
            return (one,)
        case set() | frozenset() as some:
            return tuple(sorted(texts(name, list(some)))) or None
        case wanted:
            return tuple(texts(name, wanted or None)) or None
