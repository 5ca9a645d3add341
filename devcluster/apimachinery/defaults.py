"""What the API server fills in when a pod is created: defaults and the quality-of-service class."""

from devcluster.apimachinery.errors import Json

_TOLERATIONS = [
    {
        "key": f"node.kubernetes.io/{trouble}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    for trouble in ("not-ready", "unreachable")
]


def with_defaults(pod: Json) -> Json:
    """Fill in the API server's defaults, but no token volume: containers here reach no API server."""
    spec = dict(pod.get("spec") or {})
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    defaults: Json = {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "priority": 0,
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }
    spec = {**defaults, **spec, "serviceAccountName": account, "serviceAccount": account}
    spec["tolerations"] = [*spec.get("tolerations", []), *_missing_tolerations(spec)]
    for group in ("initContainers", "containers"):
        if group in spec:
            spec[group] = [_container_with_defaults(container) for container in spec[group]]
    if "volumes" in spec:
        spec["volumes"] = [_volume_with_defaults(volume) for volume in spec["volumes"]]
    return {**pod, "apiVersion": "v1", "kind": "Pod", "spec": spec}


def _missing_tolerations(spec: Json) -> list[Json]:
    given = {toleration.get("key") for toleration in spec.get("tolerations", [])}
    return [toleration for toleration in _TOLERATIONS if toleration["key"] not in given]


def _container_with_defaults(container: Json) -> Json:
    image = str(container.get("image", ""))
    untagged = ":" not in image.rpartition("/")[2]
    defaults: Json = {
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "Always" if untagged or image.endswith(":latest") else "IfNotPresent",
    }
    resources = dict(container.get("resources") or {})
    if "limits" in resources:
        resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
    return {**defaults, **container, "resources": resources}


def _volume_with_defaults(volume: Json) -> Json:
    filled = dict(volume)
    for kind in ("secret", "configMap", "projected", "downwardAPI"):
        if kind in filled:
            filled[kind] = {"defaultMode": 420, **filled[kind]}
    if len(filled) == 1:
        filled["emptyDir"] = {}
    return filled


def quality_of_service(spec: Json) -> str:
    """Return the ``qosClass``, by requests and limits of all containers."""
    containers = [*spec.get("initContainers", []), *spec.get("containers", [])]
    resources = [container.get("resources") or {} for container in containers]
    if not any(resource.get("requests") or resource.get("limits") for resource in resources):
        return "BestEffort"
    guaranteed = all(
        {"cpu", "memory"} <= set(resource.get("limits") or {}) and resource.get("requests") == resource.get("limits")
        for resource in resources
    )
    return "Guaranteed" if guaranteed else "Burstable"
