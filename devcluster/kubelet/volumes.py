"""Volumes as directories: emptyDir, secret, configMap, downwardAPI and projected ones made of these."""

from collections.abc import Iterator
from pathlib import Path

from devcluster.apimachinery.errors import Json
from devcluster.apimachinery.store import Store
from devcluster.kubelet.environment import ConfigError, field_value, object_data, resource_value

_KINDS = ("emptyDir", "secret", "configMap", "downwardAPI", "projected")


class MountError(Exception):
    """A volume that cannot be set up: a ``FailedMount`` event says why, and the pod stays in ContainerCreating."""


def set_up_volumes(store: Store, pod: Json, directory: Path) -> dict[str, Path]:
    """Make the directories of a pod's volumes; return them by the volumes' names.

    Raises:
        MountError: a secret or config map is missing, or the kind of volume is refused here.
    """
    return {
        volume["name"]: _set_up(store, pod, volume, directory / volume["name"])
        for volume in pod["spec"].get("volumes", [])
    }


def _set_up(store: Store, pod: Json, volume: Json, directory: Path) -> Path:
    kind = next((name for name in volume if name != "name"), "emptyDir")
    if kind not in _KINDS:
        why = (
            "the pocket cluster refuses this kind of volume"
            if kind == "hostPath"
            else "not known to the pocket cluster"
        )
        raise MountError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {kind}: {why}')
    directory.mkdir(parents=True, exist_ok=True)
    try:
        for path, content in _files(store, pod, kind, volume[kind] or {}):
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    except ConfigError as error:
        raise MountError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error
    return directory


def _files(store: Store, pod: Json, kind: str, source: Json) -> Iterator[tuple[str, bytes]]:
    match kind:
        case "secret":
            yield from _object_files(store, pod, "secrets", source.get("secretName") or source.get("name", ""), source)
        case "configMap":
            yield from _object_files(store, pod, "configmaps", source.get("name", ""), source)
        case "downwardAPI":
            for item in source.get("items", []):
                yield item["path"], _downward(pod, item)
        case "projected":
            for part in source.get("sources", []):
                for inner, inner_source in part.items():
                    yield from _files(store, pod, inner, inner_source)
        case _:
            return


def _downward(pod: Json, item: Json) -> bytes:
    if "fieldRef" in item:
        return field_value(pod, item["fieldRef"]["fieldPath"]).encode()
    return resource_value(pod, pod["spec"]["containers"][0], item["resourceFieldRef"]).encode()


def _object_files(store: Store, pod: Json, resource: str, name: str, source: Json) -> Iterator[tuple[str, bytes]]:
    data = object_data(store, resource, pod["metadata"]["namespace"], name)
    if data is None:
        if source.get("optional"):
            return
        raise ConfigError(f'{resource.removesuffix("s")} "{name}" not found')
    items = source.get("items")
    if not items:
        yield from data.items()
        return
    for item in items:
        if item["key"] in data:
            yield item["path"], data[item["key"]]
        elif not source.get("optional"):
            raise ConfigError(f"references non-existent {resource.removesuffix('s')} key: {item['key']}")
