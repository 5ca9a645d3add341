"""A container's environment: spec, secrets, config maps and the downward API, with ``$(VAR)`` expanded."""

import base64
import re
from collections.abc import Mapping

from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.quantity import amount
from devcluster.apimachinery.store import Store

_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_FIELD_KEY = re.compile(r"^metadata\.(labels|annotations)\['([^']+)'\]$")


class ConfigError(Exception):
    """A container that cannot be configured: ``CreateContainerConfigError`` with this message."""


def expand(text: str, known: Mapping[str, str]) -> str:
    """Expand ``$(NAME)`` and ``$$`` as Kubernetes does: what is unknown stays as it is."""

    def replacement(found: re.Match[str]) -> str:
        name = found.group(1)
        if name is None:
            return "$"
        return known.get(name, found.group())

    return _REFERENCE.sub(replacement, text)


def environment_of(store: Store, pod: Json, container: Json) -> dict[str, str]:
    """Return the variables that the pod gives a container.

    Raises:
        ConfigError: a secret, config map or key is missing and not optional.
    """
    namespace = pod["metadata"]["namespace"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found.update(_whole_object(store, namespace, source))
    for variable in container.get("env", []):
        name = variable["name"]
        if "valueFrom" in variable:
            value = _value_from(store, pod, container, variable["valueFrom"])
            if value is not None:
                found[name] = value
        else:
            found[name] = expand(variable.get("value", ""), found)
    return found


def object_data(store: Store, resource: str, namespace: str, name: str) -> dict[str, bytes] | None:
    """Return the files of a secret or config map; None when it does not exist."""
    stored = store.find(resource, (namespace, name))
    if stored is None:
        return None
    data = stored.object.get("data") or {}
    if resource == "secrets":
        return {key: base64.b64decode(value) for key, value in data.items()}
    plain = {key: str(value).encode() for key, value in data.items()}
    return plain | {key: base64.b64decode(value) for key, value in (stored.object.get("binaryData") or {}).items()}


def _whole_object(store: Store, namespace: str, source: Json) -> dict[str, str]:
    resource, reference = ("secrets", source["secretRef"]) if "secretRef" in source else _config_reference(source)
    data = object_data(store, resource, namespace, reference.get("name", ""))
    if data is None:
        if reference.get("optional"):
            return {}
        raise _missing(resource, reference.get("name", ""))
    prefix = source.get("prefix", "")
    return {f"{prefix}{key}": value.decode(errors="surrogateescape") for key, value in data.items()}


def _config_reference(source: Json) -> tuple[str, Json]:
    return "configmaps", source.get("configMapRef") or {}


def _missing(resource: str, name: str) -> ConfigError:
    return ConfigError(f'{resource.removesuffix("s")} "{name}" not found')


def _value_from(store: Store, pod: Json, container: Json, source: Json) -> str | None:
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_value(pod, container, source["resourceFieldRef"])
    if "secretKeyRef" in source:
        return _key_of(store, pod, "secrets", source["secretKeyRef"])
    return _key_of(store, pod, "configmaps", source.get("configMapKeyRef") or {})


def _key_of(store: Store, pod: Json, resource: str, reference: Json) -> str | None:
    namespace, name, key = pod["metadata"]["namespace"], reference.get("name", ""), reference.get("key", "")
    data = object_data(store, resource, namespace, name)
    if data is not None and key in data:
        return data[key].decode(errors="surrogateescape")
    if reference.get("optional"):
        return None
    if data is None:
        raise _missing(resource, name)
    kind = "Secret" if resource == "secrets" else "ConfigMap"
    raise ConfigError(f"couldn't find key {key} in {kind} {namespace}/{name}")


def field_value(pod: Json, path: str) -> str:
    """Return a field of the downward API.

    Raises:
        ConfigError: it is not supported.
    """
    keyed = _FIELD_KEY.match(path)
    if keyed:
        group, key = keyed.groups()
        return str((pod["metadata"].get(group) or {}).get(key, ""))
    status, spec, metadata = pod.get("status", {}), pod["spec"], pod["metadata"]
    fields: dict[str, object] = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": status.get("podIP", ""),
        "status.hostIP": status.get("hostIP", ""),
        "status.hostIPs": status.get("hostIP", ""),
    }
    if path in ("metadata.labels", "metadata.annotations"):
        items = metadata.get(path.partition(".")[2]) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(items.items()))
    if path not in fields:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(fields[path])


def resource_value(pod: Json, container: Json, reference: Json) -> str:
    """Return ``requests.cpu``, ``limits.memory``, …, in units of the divisor, rounded up."""
    named = reference.get("containerName", container["name"])
    owner = next((one for one in pod["spec"]["containers"] if one["name"] == named), container)
    group, _, name = reference["resource"].partition(".")
    text = (owner["resources"].get(group) or {}).get(name, "0")
    divisor = amount(str(reference.get("divisor") or "1")) or 1
    return str(int(-(-amount(str(text)) // divisor)))
