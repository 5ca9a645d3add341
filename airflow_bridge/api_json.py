"""Kubernetes objects as JSON, in the form of the API, whatever library they come from.

Users give ``V1…`` objects of the kubernetes client (any version), the provider's old wrappers, or dicts. Importing
the client would cost seconds and a dependency, so its objects are recognised by their methods.
"""

import datetime as dt
from collections.abc import Mapping
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
GivenObject = Mapping[str, object] | ClientModel | ProviderObject


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
    given = fields_of(value)
    return ApiObject({json_name: to_json(part) for json_name, part in given.items() if part is not None})


def fields_of(value: object) -> Mapping[str, object]:
    """Return a Kubernetes object's fields by the API's names, their values as they are.

    Raises:
        TypeError: it is no Kubernetes object.
    """
    if isinstance(value, Mapping):
        return value
    names = getattr(value, "attribute_map", None)
    if isinstance(names, Mapping):
        return {json_name: getattr(value, name, None) for name, json_name in names.items()}
    for way in ("to_k8s_client_obj", "to_dict"):
        convert = getattr(value, way, None)
        if callable(convert) and not isinstance(value, type):
            return fields_of(convert())
    raise TypeError(f"expected a Kubernetes object or plain data, got {type(value).__name__}")


def plain(value: object) -> Any:
    """Return the same data in plain dicts and lists."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value
