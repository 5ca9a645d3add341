"""Label and field selectors of list and watch."""

import re
from collections.abc import Callable

from devcluster.apimachinery.errors import Json, StatusError, bad_request

Match = Callable[[Json], bool]
_SET = re.compile(r"^(\S+)\s+(in|notin)\s*\(([^)]*)\)$")
_COMMA_OUTSIDE = re.compile(r",(?![^(]*\))")

_FIELDS: dict[str, tuple[str, ...]] = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "spec.nodeName": ("spec", "nodeName"),
    "spec.restartPolicy": ("spec", "restartPolicy"),
    "spec.schedulerName": ("spec", "schedulerName"),
    "spec.serviceAccountName": ("spec", "serviceAccountName"),
    "status.phase": ("status", "phase"),
    "status.podIP": ("status", "podIP"),
    "type": ("type",),
    "reason": ("reason",),
    "involvedObject.kind": ("involvedObject", "kind"),
    "involvedObject.name": ("involvedObject", "name"),
    "involvedObject.namespace": ("involvedObject", "namespace"),
    "involvedObject.uid": ("involvedObject", "uid"),
    "source": ("source", "component"),
}


def everything(_obj: Json) -> bool:
    """Match any object."""
    return True


def selector(labels: str, fields: str) -> Match:
    """Make one test of both query parameters.

    Raises:
        StatusError: 400, a selector cannot be read.
    """
    tests = [_label_test(part) for part in _parts(labels)] + [_field_test(part) for part in _parts(fields)]
    if not tests:
        return everything
    return lambda obj: all(test(obj) for test in tests)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in _COMMA_OUTSIDE.split(text) if part.strip()]


def _labels(obj: Json) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("labels") or {}
    return found


def _label_test(part: str) -> Match:
    sets = _SET.match(part)
    if sets:
        key, verb, listed = sets.groups()
        values = {value.strip() for value in listed.split(",")}
        if verb == "in":
            return lambda obj: _labels(obj).get(key) in values
        return lambda obj: _labels(obj).get(key) not in values
    if "!=" in part:
        key, value = (piece.strip() for piece in part.split("!=", 1))
        return lambda obj: _labels(obj).get(key) != value
    if "=" in part:
        key, value = (piece.strip() for piece in re.split(r"==?", part, maxsplit=1))
        return lambda obj: _labels(obj).get(key) == value
    if part.startswith("!"):
        absent = part[1:].strip()
        return lambda obj: absent not in _labels(obj)
    if re.search(r"[\s()]", part):
        raise _unreadable(part)
    return lambda obj: part in _labels(obj)


def _unreadable(part: str) -> StatusError:
    return bad_request(f"unable to parse requirement: found '{part}', expected: in, notin, =, ==, !=, gt, lt")


def _field_test(part: str) -> Match:
    differs = "!=" in part
    pieces = re.split(r"!=|==?", part, maxsplit=1)
    if len(pieces) != 2:
        raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
    label, value = (piece.strip() for piece in pieces)
    path = _FIELDS.get(label)
    if path is None:
        raise bad_request(f"field label not supported: {label}")
    return lambda obj: (_field(obj, path) == value) != differs


def _field(obj: Json, path: tuple[str, ...]) -> str:
    found: object = obj
    for step in path:
        found = found.get(step, "") if isinstance(found, dict) else ""
    return str(found)
