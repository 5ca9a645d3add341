"""The path of a request as resource, namespace, name and subresource."""

from dataclasses import dataclass

from devcluster.apimachinery.errors import no_such_path

CLUSTER_SCOPED = ("namespaces", "nodes")
NAMESPACED = ("pods", "events", "secrets", "configmaps", "resourcequotas", "serviceaccounts")
KINDS = {
    "namespaces": "Namespace",
    "nodes": "Node",
    "pods": "Pod",
    "events": "Event",
    "secrets": "Secret",
    "configmaps": "ConfigMap",
    "resourcequotas": "ResourceQuota",
    "serviceaccounts": "ServiceAccount",
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about.

    Attributes:
        namespace: "" for all namespaces and for what has none.
        name: "" for a collection.
    """

    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def kind(self) -> str:
        return KINDS[self.resource]

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    @property
    def label(self) -> str:
        """Return the resource as RBAC and the request counts name it: ``pods``, ``pods/log``."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def parse_target(path: str) -> Target:
    """Read the part of a path after ``/api/v1/``.

    Raises:
        StatusError: 404, there is no such path.
    """
    steps = [step for step in path.split("/") if step]
    if len(steps) > 2 and steps[0] == "namespaces":
        namespace, resource, *rest = steps[1:]
        if resource in NAMESPACED and len(rest) <= 2:
            return Target(resource, namespace, *rest)
        if resource in ("finalize", "status") and not rest:
            return Target("namespaces", "", namespace, resource)
        raise no_such_path()
    if steps and steps[0] in CLUSTER_SCOPED and len(steps) <= 3:
        return Target(steps[0], "", *steps[1:])
    if len(steps) == 1 and steps[0] in NAMESPACED:
        return Target(steps[0])
    raise no_such_path()
