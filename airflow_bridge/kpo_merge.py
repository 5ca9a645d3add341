"""KPO's merge of two pods (``PodGenerator.reconcile_pods``), on JSON.

It is no strategic merge: containers merge by *position*, a container's lists are appended to the template's, and only
true values count as given. Users' templates rely on that. A Hypothesis test compares the two merges.
"""

from copy import deepcopy
from typing import Any

from airflow_bridge.api_json import Json, type_of

_APPENDED = ("volumeMounts", "env", "envFrom", "ports", "volumeDevices")


def reconcile_pods(base: Json, client: Json) -> Json:
    """Merge the client's pod over the base. Neither is changed."""
    merged = deepcopy(client)
    merged["spec"] = _specs(base.get("spec"), merged.get("spec"))
    merged["metadata"] = _metadata(base.get("metadata"), merged.get("metadata"))
    return _fill(base, merged)


def _metadata(base: Json | None, client: Json | None) -> Json | None:
    if not (base and client):
        return client or base
    client = type_of(client)(client)
    for name in ("labels", "annotations"):
        client[name] = {**(base.get(name) or {}), **(client.get(name) or {})} or None
    for name in ("managedFields", "finalizers", "ownerReferences"):
        client[name] = _appended(base, client, name)
    return _fill(base, client)


def _specs(base: Json | None, client: Json | None) -> Json | None:
    if not (base and client):
        return client or base
    client = type_of(client)(client)
    client["containers"] = _containers(base.get("containers") or [], client.get("containers") or [])
    client["initContainers"] = _init_containers(base.get("initContainers") or [], client.get("initContainers") or [])
    client["volumes"] = _appended(base, client, "volumes")
    return _fill(base, client)


def _containers(base: list[Json], client: list[Json]) -> list[Json]:
    paired = [_container(b, c) for b, c in zip(base, client, strict=False)]
    return paired + base[len(paired) :] + client[len(paired) :]


def _init_containers(base: list[Json], client: list[Json]) -> list[Json]:
    by_name = {container.get("name"): container for container in client}
    matched = {container.get("name") for container in base} & set(by_name)
    merged = [_container(b, by_name[b.get("name")]) if b.get("name") in matched else b for b in base]
    return merged + [container for container in client if container.get("name") not in matched]


def _container(base: Json, client: Json) -> Json:
    client = type_of(client)(client)
    for name in _APPENDED:
        client[name] = _appended(base, client, name)
    return _fill(base, client)


def _appended(base: Json, client: Json, name: str) -> list[Json] | None:
    return [*(base.get(name) or []), *(client.get(name) or [])] or client.get(name)


def _fill(base: Json, client: Json) -> Json:
    """Take from the base what is missing or false in the client."""
    merged = type_of(client)(client)
    for name, value in base.items():
        if not merged.get(name) and value is not None:
            merged[name] = value
    return type_of(merged)({name: value for name, value in merged.items() if value is not None})


def without_empty(pod: Json) -> Json:
    """Leave out the empty lists and objects of metadata, spec and containers; what has another shape stays."""
    spec = _without_empty_fields(pod.get("spec") or {})
    for name in ("containers", "initContainers"):
        if isinstance(spec, dict) and isinstance(spec.get(name), list):
            spec[name] = [_without_empty_fields(container) for container in spec[name]]
    metadata = _without_empty_fields(pod.get("metadata") or {})
    return {**{k: v for k, v in pod.items() if k != "status"}, "metadata": metadata, "spec": spec}


def _without_empty_fields(found: Any) -> Any:
    if not isinstance(found, dict):
        return found
    return {name: value for name, value in found.items() if not (isinstance(value, list | dict) and len(value) == 0)}
