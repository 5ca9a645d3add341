"""Kubernetes objects as JSON, in the form of the API, whatever library they come from.

Users give ``V1…`` objects of the kubernetes client (any version), the provider's old wrappers, or dicts. Importing
the client would cost seconds and a dependency, so its objects are recognised by their methods.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol

#: An object of the API, as JSON.
Json = dict[str, Any]


class ClientModel(Protocol):
    """A ``V1…`` object of the kubernetes client."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by Python's names, which is why ``attribute_map`` is asked first."""


class ProviderObject(Protocol):
    """One of the provider's old wrappers, e.g. its ``Port``."""

    def to_k8s_client_obj(self) -> object:
        """Return the client's object."""


#: What users may give where Kubernetes wants an object.
KubernetesObject = Mapping[str, object] | ClientModel | ProviderObject


class ApiObject(dict[str, Any]):
    """A Kubernetes object that is true even when it is empty, as a ``V1…`` object is.

    KPO merges by truth value, so ``V1ResourceRequirements()`` replaces a template's resources and ``{}`` does not.
    """

    def __bool__(self) -> bool:
        return True


def to_json(value: object) -> Any:
    """Translate a value to plain JSON data; fields that are None are left out.

    Raises:
        TypeError: it is no Kubernetes object and no plain data.
    """
    if value is None or (isinstance(value, str | bool | int | float) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Mapping):
        return type_of(value)({str(k): to_json(v) for k, v in value.items() if v is not None})
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item) for item in value]
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    return _object_to_json(value)


def type_of(mapping: Mapping[Any, object]) -> type[Json]:
    """Return the kind of dict that keeps the mapping's truth value."""
    return ApiObject if isinstance(mapping, ApiObject) else dict


def _object_to_json(value: object) -> Any:
    names = getattr(value, "attribute_map", None)
    if isinstance(names, Mapping):
        given = ((json_name, getattr(value, name, None)) for name, json_name in names.items())
        return ApiObject({json_name: to_json(part) for json_name, part in given if part is not None})
    for way in ("to_k8s_client_obj", "to_dict"):
        convert = getattr(value, way, None)
        if callable(convert):
            return to_json(convert())
    raise TypeError(f"expected a Kubernetes object or plain data, got {type(value).__name__}: {value!r}")


def plain(value: object) -> Any:
    """Return the same data in plain dicts and lists."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


def objects(values: Iterable[object] | None) -> list[Json]:
    """Translate a list of objects; None is an empty list."""
    return [to_json(value) for value in values or ()]


def texts(mapping: Mapping[str, object] | None) -> dict[str, str]:
    """Make texts of all values, as labels and annotations must be; None becomes the empty text, as in KPO."""
    return {key: "" if value is None else _text(value) for key, value in (mapping or {}).items()}


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
