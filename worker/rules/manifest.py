"""The pod that a job asks for, as JSON for the API server.

Text only: nothing here looks at a cluster. Precedence and merging are those of :mod:`dispatcher.spec`; what podrelay
itself must set comes last and cannot be overridden: name, ``restartPolicy: Never``, its labels and annotations, the
return-value sidecar.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dispatcher import names
from dispatcher.errors import InvalidSpecError
from dispatcher.spec import EnvVar, JobSpec, KubernetesObject
from worker.cluster.restart_rules import restart_rules
from worker.rules.spec_copy import spec_annotations

_OURS: Final = "podrelay.dev/"

#: What a template says of itself and no job may have; labels and annotations are taken, the rest (uid, generateName …)
#: belongs to some other pod.
_REFUSED_METADATA: Final = {
    "finalizers": "a pod that cannot go would hold a worker's capacity for ever",
    "ownerReferences": "the garbage collector deletes a pod whose owner it does not find",
}

#: Lists whose members merge by a name of their own; all other lists are replaced.
_LIST_KEYS: Final = {"containers": "name", "initContainers": "name", "volumeMounts": "mountPath"}
_REPLACED_MEMBERS: Final = {"volumes": "name", "env": "name"}

#: Nobody: for the sidecar of a pod that must not run as root, where no user is named.
_NOBODY: Final = 65534

#: Waits for TERM and reacts to it at once (``wait`` is interrupted, a ``sleep`` in front would not be), then prints one
#: line of header and the file. The kubelet sends TERM to a native sidecar when the last main container has ended. A
#: shell can miss a signal in the microseconds before ``wait`` begins (dash does) and then reacts when the sleep is
#: over. POSIX sh: busybox, alpine, debian.
_PRINT_RETURN_VALUE: Final = f"""\
f={names.RETURN_VALUE_FILE}
emit() {{
  kill "$p" 2>/dev/null
  if [ ! -s "$f" ]; then echo "podrelay-return-value missing"; exit 0; fi
  if [ ! -r "$f" ]; then echo "podrelay-return-value unreadable"; exit 0; fi
  n=$(($(wc -c < "$f")))
  if [ "$n" -gt {names.MAX_RETURN_VALUE_BYTES} ]; then echo "podrelay-return-value too-large $n"; exit 0; fi
  h=$(sha256sum "$f")
  echo "podrelay-return-value $n ${{h%% *}}"
  cat "$f"
  exit 0
}}
trap emit TERM INT
while :; do sleep 5 & p=$!; wait "$p"; done
"""


def manifest(
    spec: JobSpec, *, attempt: int, namespace: str, installation: str, return_value_image: str
) -> KubernetesObject:
    """Build the pod of one attempt.

    Args:
        namespace: where the spec names none.
        return_value_image: has a POSIX sh, wc and sha256sum; only used where the spec asks for a return value.

    Raises:
        InvalidSpecError: the spec contradicts what podrelay itself must set.
    """
    template = spec.pod_template or {}
    pod = strategic_merge(template.get("spec") or {}, _pod_fields(spec))
    base = strategic_merge(_base_of(pod, spec.base_container), _base_fields(spec))
    pod["containers"] = _with_member(pod.get("containers") or [], base)
    pod["restartPolicy"] = "Never"
    metadata = _metadata(spec, attempt, namespace, installation)
    if problems := [*_problems_of_template(template), *_problems(metadata, pod)]:
        raise InvalidSpecError(problems)
    metadata["labels"] |= _labels(spec, attempt, installation)
    metadata["annotations"] |= _annotations(spec)
    if spec.return_value:
        _add_return_value(pod, base, return_value_image)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}


def namespace_of(spec: JobSpec, default: str) -> str:
    """Return the namespace of the job's pod: the spec's, else the template's, else ``default``."""
    metadata = (spec.pod_template or {}).get("metadata") or {}
    return spec.namespace or metadata.get("namespace") or default


def strategic_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> KubernetesObject:
    """Merge two Kubernetes objects as strategic merge does; neither is changed."""
    result = dict(below)
    for name, value in above.items():
        old = result.get(name)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            result[name] = strategic_merge(old, value)
        elif not isinstance(old, list) or not isinstance(value, list | tuple):
            result[name] = value
        elif name in _REPLACED_MEMBERS:
            result[name] = _merge_list(old, value, _REPLACED_MEMBERS[name], replace=True)
        elif name in _LIST_KEYS:
            result[name] = _merge_list(old, value, _LIST_KEYS[name], replace=False)
        else:
            result[name] = value
    return result


def _merge_list(below: Iterable[Any], above: Iterable[Any], key: str, *, replace: bool) -> list[Any]:
    below, above = list(below), list(above)
    if not all(isinstance(member, Mapping) and isinstance(member.get(key), str) for member in (*below, *above)):
        return above  # a list of this name in some other place
    members = {member.get(key): member for member in below}
    for member in above:
        old = members.get(member.get(key))
        members[member.get(key)] = member if replace or old is None else strategic_merge(old, member)
    return list(members.values())


def _base_of(pod: KubernetesObject, name: str) -> KubernetesObject:
    return next((c for c in pod.get("containers") or [] if c.get("name") == name), {})


def _with_member(containers: list[KubernetesObject], base: KubernetesObject) -> list[KubernetesObject]:
    """Put the base container in its place; a new one goes first, where ``kubectl logs`` looks."""
    if all(c.get("name") != base["name"] for c in containers):
        return [base, *containers]
    return [base if c.get("name") == base["name"] else c for c in containers]


def _base_fields(spec: JobSpec) -> KubernetesObject:
    return _without_none(
        name=spec.base_container,
        image=spec.image,
        imagePullPolicy=spec.image_pull_policy,
        command=None if spec.command is None else list(spec.command),
        args=None if spec.args is None else list(spec.args),
        workingDir=spec.working_dir,
        env=[*_trace(spec), *(_env(variable) for variable in spec.env)] or None,
        envFrom=list(spec.env_from) or None,
        ports=list(spec.ports) or None,
        resources=spec.resources,
        volumeMounts=list(spec.volume_mounts) or None,
        securityContext=spec.container_security_context,
        terminationMessagePolicy=spec.termination_message_policy,
    )


def _pod_fields(spec: JobSpec) -> KubernetesObject:
    return _without_none(
        serviceAccountName=spec.service_account_name,
        automountServiceAccountToken=spec.automount_service_account_token,
        nodeSelector=spec.node_selector or None,
        tolerations=list(spec.tolerations) or None,
        affinity=spec.affinity,
        volumes=list(spec.volumes) or None,
        initContainers=list(spec.init_containers) or None,
        containers=list(spec.containers) or None,
        imagePullSecrets=[{"name": name} for name in spec.image_pull_secrets] or None,
        securityContext=spec.security_context,
        priorityClassName=spec.priority_class_name,
        runtimeClassName=spec.runtime_class_name,
        schedulerName=spec.scheduler_name,
        hostNetwork=spec.host_network,
        hostAliases=list(spec.host_aliases) or None,
        hostname=spec.hostname,
        subdomain=spec.subdomain,
        dnsPolicy=spec.dns_policy,
        dnsConfig=spec.dns_config,
        terminationGracePeriodSeconds=spec.termination_grace_period_s,
        activeDeadlineSeconds=spec.active_deadline_s,
    )


def _without_none(**fields: Any) -> KubernetesObject:
    return {name: value for name, value in fields.items() if value is not None}


def _trace(spec: JobSpec) -> list[KubernetesObject]:
    """Return the trace context for user code as environment variables, by OpenTelemetry's convention.

    ``TRACEPARENT``, ``TRACESTATE``, ``BAGGAGE``; a variable that the spec sets itself wins.
    """
    own = {variable.name for variable in spec.env}
    given = {name.upper(): value for name, value in spec.trace.items()}
    return [{"name": name, "value": value} for name, value in given.items() if name not in own]


def _env(variable: EnvVar) -> KubernetesObject:
    return _without_none(name=variable.name, value=variable.value, valueFrom=variable.valueFrom)


def _metadata(spec: JobSpec, attempt: int, namespace: str, installation: str) -> KubernetesObject:
    template = (spec.pod_template or {}).get("metadata") or {}
    return {
        "name": names.pod_name(name=spec.name, installation=installation, job_id=spec.id, attempt=attempt),
        "namespace": namespace_of(spec, namespace),
        "labels": {**(template.get("labels") or {}), **spec.labels, **spec.volatile_labels},
        "annotations": {**(template.get("annotations") or {}), **spec.annotations},
    }


def _labels(spec: JobSpec, attempt: int, installation: str) -> dict[str, str]:
    return {
        names.LABEL_INSTALLATION: installation,
        names.LABEL_QUEUE: spec.queue,
        names.LABEL_JOB: spec.id,
        names.LABEL_ATTEMPT: str(attempt),
    }


def _annotations(spec: JobSpec) -> dict[str, str]:
    key_hash = names.key_hash(spec.key) if spec.key else None
    return _without_none(
        **{names.ANNOTATION_DIGEST: spec.digest, names.ANNOTATION_KEY: key_hash, **spec_annotations(spec)},
    )


def _problems_of_template(template: KubernetesObject) -> list[str]:
    metadata = template.get("metadata") or {}
    found = [(name, why) for name, why in _REFUSED_METADATA.items() if metadata.get(name)]
    return [f"pod_template.metadata.{name}: remove it: {why}" for name, why in found]


def _problems(metadata: KubernetesObject, pod: KubernetesObject) -> list[str]:
    problems = [
        f"{field}.{name}: names under {_OURS} are podrelay's own; remove it"
        for field in ("labels", "annotations")
        for name in metadata[field]
        if name.startswith(_OURS)
    ]
    only = "a job is one run of its pod: no rules, only Never, and Always for a sidecar among the init containers"
    problems += [f"{found}: {only}" for found in restart_rules(pod)]
    for field in ("containers", "initContainers", "volumes"):
        if any(member.get("name") == names.RETURN_VALUE_CONTAINER for member in pod.get(field) or []):
            problems.append(f"{field}.{names.RETURN_VALUE_CONTAINER}: the name is podrelay's own; use another")
    return problems


def _add_return_value(pod: KubernetesObject, base: KubernetesObject, image: str) -> None:
    """Share a directory between the base container and a native sidecar that prints what was written there.

    The sidecar comes after the job's own init containers, so that these are counted without it.
    """
    mount = {"name": names.RETURN_VALUE_CONTAINER, "mountPath": names.RETURN_VALUE_DIRECTORY}
    base = {**base, "volumeMounts": _mounts_with(base, mount)}
    pod["containers"] = _with_member(pod["containers"], base)
    pod["volumes"] = [*(pod.get("volumes") or []), {"name": names.RETURN_VALUE_CONTAINER, "emptyDir": {}}]
    sidecar = {
        "name": names.RETURN_VALUE_CONTAINER,
        "image": image,
        "command": ["/bin/sh", "-c", _PRINT_RETURN_VALUE],
        "restartPolicy": "Always",
        "resources": _sidecar_resources(base),
        "securityContext": _sidecar_security(pod, base),
        "volumeMounts": [{**mount, "readOnly": True}],
    }
    pod["initContainers"] = [*(pod.get("initContainers") or []), sidecar]


def _mounts_with(base: KubernetesObject, mount: KubernetesObject) -> list[KubernetesObject]:
    others = [m for m in base.get("volumeMounts") or [] if m.get("mountPath", "").rstrip("/") != mount["mountPath"]]
    return [*others, mount]


def _sidecar_resources(base: KubernetesObject) -> KubernetesObject:
    """Return small requests; a limit for what the base container limits, as a quota may ask it of every container."""
    limited = (base.get("resources") or {}).get("limits") or {}
    limits = {kind: value for kind, value in {"cpu": "100m", "memory": "64Mi"}.items() if kind in limited}
    return _without_none(requests={"cpu": "1m", "memory": "10Mi"}, limits=limits or None)


def _sidecar_security(pod: KubernetesObject, base: KubernetesObject) -> KubernetesObject:
    """Return the base container's user and confinement: the sidecar reads its file, and passes the same admission."""
    of_base = base.get("securityContext") or {}
    of_pod = pod.get("securityContext") or {}
    taken = ("runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile", "seLinuxOptions", "appArmorProfile")
    context = {name: of_base[name] for name in taken if name in of_base}
    if drop := (of_base.get("capabilities") or {}).get("drop"):
        context["capabilities"] = {"drop": drop}
    effective = {**of_pod, **context}
    if effective.get("runAsNonRoot") and effective.get("runAsUser") is None:
        context["runAsUser"] = _NOBODY
    return context | {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}
