"""Merge patch, strategic merge patch and JSON patch, as far as pods need them."""

import copy
from typing import Any

from devcluster.apimachinery.errors import Cause, Json, bad_request, conflict, invalid, unsupported_media_type

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
_MERGED_BY_NAME = ("containers", "initContainers", "env", "volumes", "schedulingGates", "imagePullSecrets", "secrets")
_MERGED_AS_SETS = ("finalizers",)
_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates")


def apply_patch(content_type: str, obj: Json, patch: Any) -> Json:
    """Return the patched object.

    Raises:
        StatusError: 400 or 422 for what cannot be applied, 415 for another kind of patch.
    """
    match content_type:
        case "application/merge-patch+json":
            return dict(_merge(obj, _mapping(patch)))
        case "application/strategic-merge-patch+json":
            return dict(_strategic(obj, _mapping(patch)))
        case "application/json-patch+json":
            return _json_patch(copy.deepcopy(obj), patch)
        case _:
            raise unsupported_media_type((JSON_PATCH, MERGE, STRATEGIC))


def _mapping(patch: Any) -> Json:
    if not isinstance(patch, dict):
        raise bad_request("json: cannot unmarshal the patch into an object")
    return patch


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged


def _strategic(target: Json, patch: Json) -> Json:
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif key.startswith("$"):
            continue
        elif isinstance(value, dict):
            merged[key] = _strategic(merged.get(key) or {}, value)
        elif isinstance(value, list) and key in _MERGED_BY_NAME:
            merged[key] = _by_name(merged.get(key) or [], value)
        elif isinstance(value, list) and key in _MERGED_AS_SETS:
            old = merged.get(key) or []
            merged[key] = [*old, *(item for item in value if item not in old)]
        else:
            merged[key] = value
        if merged.get(key) == []:
            del merged[key]
    return merged


def _by_name(target: list[Json], patch: list[Json]) -> list[Json]:
    merged = {item["name"]: item for item in target}
    for item in patch:
        name = item.get("name", "")
        if item.get("$patch") == "delete":
            merged.pop(name, None)
        else:
            merged[name] = _strategic(merged.get(name, {}), item)
    return list(merged.values())


def _json_patch(obj: Json, operations: Any) -> Json:
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    for operation in operations:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
        try:
            _operate(obj, operation, steps)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            cause = Cause("patch", "FieldValueInvalid", f"Invalid value: {operation['path']}: {error}")
            raise invalid("Pod", obj["metadata"]["name"], [cause]) from error
    return obj


def _operate(obj: Any, operation: Json, steps: list[str]) -> None:
    for step in steps[:-1]:
        obj = obj[int(step)] if isinstance(obj, list) else obj[step]
    last: Any = steps[-1]
    if isinstance(obj, list):
        last = len(obj) if last == "-" else int(last)
    match operation["op"]:
        case "test":
            if obj[last] != operation["value"]:
                raise ValueError("testing value failed")
        case "remove":
            del obj[last]
        case "add" if isinstance(obj, list):
            obj.insert(last, operation["value"])
        case "add" | "replace":
            if operation["op"] == "replace" and not isinstance(obj, list) and last not in obj:
                raise KeyError("doc is missing key")
            obj[last] = operation["value"]
        case other:
            raise ValueError(f"unexpected kind: {other}")


def check_pod_change(before: Json, after: Json) -> Json:
    """Refuse changes that a pod does not allow; return the object to store.

    Its generation is raised when the spec changed.

    Raises:
        StatusError: 409 for another uid or version, 422 for a change of what is fixed.
    """
    name = before["metadata"]["name"]
    for field in ("uid", "resourceVersion"):
        if after["metadata"].get(field, before["metadata"][field]) != before["metadata"][field]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            if field == "uid":
                given, found = after["metadata"]["uid"], before["metadata"]["uid"]
                why = f"Precondition failed: UID in precondition: {given}, UID in object meta: {found}"
            raise conflict("pods", name, why)
    if _fixed(before["spec"]) != _fixed(after["spec"]):
        words = "Forbidden: pod updates may not change fields other than " + ",".join(
            f"`{field}`" for field in ("spec.containers[*].image", "spec.initContainers[*].image", *_mutable_names())
        )
        raise invalid("Pod", name, [Cause("spec", "FieldValueForbidden", words)])
    kept = (
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    )
    metadata = {**after["metadata"], **{key: before["metadata"][key] for key in kept if key in before["metadata"]}}
    if before["spec"] != after["spec"]:
        metadata["generation"] = metadata.get("generation", 1) + 1
    return {**after, "metadata": metadata, "status": before["status"]}


def _mutable_names() -> tuple[str, ...]:
    return tuple(f"spec.{field}" for field in _MUTABLE if field != "schedulingGates")


def _fixed(spec: Json) -> Json:
    fixed = {key: value for key, value in spec.items() if key not in _MUTABLE}
    for group in ("containers", "initContainers"):
        if group in fixed:
            fixed[group] = [{key: value for key, value in one.items() if key != "image"} for one in fixed[group]]
    return fixed
