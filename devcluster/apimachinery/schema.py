"""The fields a pod may have, for ``fieldValidation`` and for type errors.

``pod_schema.json`` was derived from the models of the kubernetes client 36.0.3 (OpenAPI names and types; a unit test
holds the two together), so that this package needs no client.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devcluster.apimachinery.errors import Json, bad_request

_SCHEMA: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "pod_schema.json").read_text())
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$")
_NOT_A_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_GO_TYPES = {"str": "string", "int": "int32", "bool": "bool", "datetime": "v1.Time"}
_JSON_NAMES: dict[type, str] = {
    str: "string",
    int: "number",
    float: "number",
    bool: "bool",
    list: "array",
    dict: "object",
}


@dataclass(slots=True)
class Decoded:
    """A pod with only the fields that exist, and the paths of those that do not."""

    pod: Json
    unknown: list[str] = field(default_factory=list)


def decode_pod(body: Json) -> Decoded:
    """Read a pod, without the fields that do not exist.

    Raises:
        StatusError: 400, a value has the wrong type.
    """
    decoded = Decoded({})
    decoded.pod = _decode_object(body, "Pod", "", decoded.unknown)
    return decoded


def _cannot(why: str) -> Exception:
    return bad_request(f'Pod in version "v1" cannot be handled as a Pod: {why}')


def refuse_unknown(unknown: list[str]) -> None:
    """Refuse unknown fields as ``fieldValidation=Strict`` does (recording ``refused-400-unknown-field``).

    Raises:
        StatusError: 400, there are some.
    """
    if unknown:
        said = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise _cannot(f"strict decoding error: {said}")


def _decode_object(value: Json, kind: str, path: str, unknown: list[str]) -> Json:
    fields = _SCHEMA[kind]
    kept: Json = {}
    for name, item in value.items():
        here = f"{path}.{name}" if path else name
        declared = fields.get(name)
        if declared is None:
            unknown.append(here)
        elif item is not None:
            kept[name] = _decode(item, declared, here, unknown)
    return kept


def _decode(value: Any, declared: str, path: str, unknown: list[str]) -> Any:
    if declared.startswith("list["):
        return _decode_list(value, declared[5:-1], path, unknown)
    if declared.startswith("dict[str, "):
        return _decode_map(value, declared[10:-1], path, unknown)
    if declared in _SCHEMA:
        if not isinstance(value, dict):
            raise _mismatch(value, declared, path)
        return _decode_object(value, declared, path, unknown)
    return _decode_scalar(value, declared, path)


def _decode_list(value: Any, item_type: str, path: str, unknown: list[str]) -> list[Any]:
    if not isinstance(value, list):
        raise _mismatch(value, f"[]{item_type}", path)
    return [_decode(item, item_type, f"{path}[{at}]", unknown) for at, item in enumerate(value)]


def _decode_map(value: Any, item_type: str, path: str, unknown: list[str]) -> Json:
    if not isinstance(value, dict):
        raise _mismatch(value, f"map[string]{item_type}", path)
    return {name: _decode(item, item_type, f"{path}.{name}", unknown) for name, item in value.items()}


def _decode_scalar(value: Any, declared: str, path: str) -> Any:
    match declared:
        case "Quantity":
            if not _QUANTITY.match(str(value)) or isinstance(value, bool | dict | list):
                raise _cannot(_NOT_A_QUANTITY)
            return str(value)
        case "str" | "datetime":
            fits = isinstance(value, str)
        case "int":
            fits = isinstance(value, int) and not isinstance(value, bool)
        case "bool":
            fits = isinstance(value, bool)
        case _:
            fits = True
    if not fits:
        raise _mismatch(value, declared, path)
    return value


def _mismatch(value: Any, declared: str, path: str) -> Exception:
    got = _JSON_NAMES.get(type(value), "null")
    where = re.sub(r"\[\d+\]", "", path)
    return _cannot(
        f"json: cannot unmarshal {got} into Go struct field Pod.{where} of type {_GO_TYPES.get(declared, declared)}"
    )
