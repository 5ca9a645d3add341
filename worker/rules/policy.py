"""What a worker refuses to create, judged on the final manifest.

Whoever can write to Redis can run code in the cluster, so the cluster's side decides. This is the seam between manifest
and create; the default rule is small: the worker's own namespaces, and nothing that belongs to the node.
"""

from collections.abc import Collection, Iterator

from dispatcher.spec import KubernetesObject

_POD_FLAGS = ("hostNetwork", "hostPID", "hostIPC")


def violations(manifest: KubernetesObject, *, namespaces: Collection[str]) -> list[str]:
    """List what this pod may not have: a line each, with its path and what to do. Empty: it may be created."""
    pod = manifest["spec"]
    return [
        *_elsewhere(manifest["metadata"].get("namespace", ""), namespaces),
        *(f"spec.{flag}: the node's own is not allowed; remove it" for flag in _POD_FLAGS if pod.get(flag)),
        *_of_volumes(pod),
        *_of_windows("spec.securityContext", pod.get("securityContext") or {}),
        *_of_containers(pod),
    ]


def _elsewhere(namespace: str, namespaces: Collection[str]) -> Iterator[str]:
    if namespace not in namespaces:
        served = ", ".join(sorted(namespaces)) or "none"
        yield f"metadata.namespace: {namespace!r} is not served by this worker (served: {served}); use one of these"


def _of_volumes(pod: KubernetesObject) -> Iterator[str]:
    for i, volume in enumerate(pod.get("volumes") or []):
        if "hostPath" in volume:
            yield f"spec.volumes[{i}].hostPath: the node's files are not allowed; use another kind of volume"


def _of_containers(pod: KubernetesObject) -> Iterator[str]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(pod.get(field) or []):
            path = f"spec.{field}[{i}]"
            context = container.get("securityContext") or {}
            if context.get("privileged"):
                yield f"{path}.securityContext.privileged: not allowed; remove it"
            if added := (context.get("capabilities") or {}).get("add"):
                yield f"{path}.securityContext.capabilities.add: {', '.join(added)}: not allowed; remove it"
            if context.get("procMount") == "Unmasked":
                yield f"{path}.securityContext.procMount: Unmasked is not allowed; remove it"
            if any(port.get("hostPort") for port in container.get("ports") or []):
                yield f"{path}.ports: hostPort is not allowed; remove it"
            yield from _of_windows(f"{path}.securityContext", context)


def _of_windows(path: str, context: KubernetesObject) -> Iterator[str]:
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{path}.windowsOptions.hostProcess: not allowed; remove it"
