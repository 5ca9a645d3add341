"""Admission: refuse a pod (403) for its service account, its priority class, a quota or its namespace."""

from devcluster.apimachinery.errors import Cause, Json, StatusError, forbidden
from devcluster.apimachinery.quantity import amount
from devcluster.apimachinery.store import Store


def admit(store: Store, pod: Json, *, active_pods: int) -> None:
    """Check service account, priority class and quotas.

    Raises:
        StatusError: 403, one of them forbids the pod.
    """
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    account = pod["spec"]["serviceAccountName"]
    if account != "default" and store.find("serviceaccounts", (namespace, account)) is None:
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise forbidden("pods", name, why)
    priority = pod["spec"].get("priorityClassName")
    if priority and not priority.startswith("system-"):
        raise forbidden("pods", name, f"no PriorityClass with name {priority} was found")
    for (_namespace, quota), stored in store.each("resourcequotas", namespace):
        refused = _over_quota(quota, stored.object["spec"].get("hard", {}), active_pods)
        if refused:
            raise forbidden("pods", name, refused)


def _over_quota(quota: str, hard: Json, active_pods: int) -> str | None:
    for resource in ("pods", "count/pods"):
        if resource in hard and active_pods + 1 > int(amount(str(hard[resource]))):
            used = f"requested: {resource}=1, used: {resource}={active_pods}, limited: {resource}={hard[resource]}"
            return f"exceeded quota: {quota}, {used}"
    return None


def terminating_namespace(resource: str, name: str, namespace: str) -> StatusError:
    """Make the refusal of a namespace that is being deleted (recording ``refused-403-terminating-namespace``)."""
    cause = Cause("metadata.namespace", "NamespaceTerminating", f"namespace {namespace} is being terminated")
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    return forbidden(resource, name, why, [cause])
