"""Objects of Kubernetes as users of KubernetesPodOperator know them: ``pod.spec.containers[0].env``, and as dicts.

A :class:`KubernetesObject` is a dict in the API's form, so it is what the wire wants, and answers to the names of the
kubernetes client as well, which Airflow need not have. What is a field of which kind stands in
``kubernetes_object.json``, which ``tests/airflow/kubernetes_fields.py`` makes of the client. What a dict has of its own
(``items``, ``values``) is read as a dict's: write ``volume.config_map["items"]``.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, MutableMapping
from functools import cache
from importlib import resources
from typing import Any, ClassVar

from yaml.representer import Representer, SafeRepresenter

from airflow_bridge.api_json import ApiObject, fields_of
from airflow_bridge.masking import masked_variable

#: Names that the client does not make by its own rule.
_IRREGULAR = {"exec": "_exec", "targetWWNs": "target_wwns", "hostIPs": "host_ips", "podIPs": "pod_ips"}


@cache
def _kinds() -> Mapping[str, Mapping[str, str]]:
    return dict(json.loads(resources.files(__package__).joinpath("kubernetes_object.json").read_text()))


@cache
def _names(kind: str) -> Mapping[str, str]:
    """Return the API's names of a kind's fields by the client's."""
    return {_python_name(name): name for name in _kinds()[kind]}


def _python_name(name: str) -> str:
    split = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return _IRREGULAR.get(name) or re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", split).lower()


class KubernetesObject(ApiObject):
    """An object of one kind. A field that is not set is None as an attribute, and missing as a key."""

    __slots__ = ("_kind",)

    def __init__(self, kind: str, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        object.__setattr__(self, "_kind", kind)

    def __getattr__(self, name: str) -> Any:
        return self.get(_key(self._kind, name))

    def __setattr__(self, name: str, value: object) -> None:
        self[_key(self._kind, name)] = value

    def __delattr__(self, name: str) -> None:
        self.pop(_key(self._kind, name), None)

    def __reduce__(self) -> tuple[type, tuple[str, dict[str, Any]]]:
        return type(self), (self._kind, dict(self))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data by the client's names, as its ``to_dict`` does: every field, those that are not set too."""
        return {name: _as_dict(self.get(key)) for name, key in _names(self._kind).items()}


for _representer in (SafeRepresenter, Representer):  # YAML asks for the very class
    _representer.add_representer(KubernetesObject, SafeRepresenter.represent_dict)


def _key(kind: str, name: str) -> str:
    if (key := _names(kind).get(name)) is not None:
        return key
    if name.startswith("__"):  # what Python and libraries ask of any object
        raise AttributeError(name)
    near = difflib.get_close_matches(name, _names(kind), n=1)
    where = sorted(other for other in _kinds() if name in _names(other))
    hint = f"; did you mean {near[0]!r}?" if near else f"; {', '.join(where[:3])} has it" if where else ""
    raise AttributeError(f"{kind} has no field {name!r} in Kubernetes{hint}")


def _as_dict(value: object) -> Any:
    match value:
        case list():
            return [_as_dict(each) for each in value]
        case KubernetesObject() | EnvVariable():
            return value.to_dict()
        case Mapping():
            return {name: _as_dict(each) for name, each in value.items()}
        case _:
            convert = getattr(value, "to_dict", None)
            return convert() if callable(convert) else value


def kubernetes_object(kind: str, fields: Mapping[str, Any], *, are_dicts_objects: bool = False) -> KubernetesObject:
    """Make an object of this kind, and of what is in it: the kinds of its fields are known.

    An empty dict stays one, as it does in a pod of KPO: it is false, and users ask. Unless ``are_dicts_objects``: what
    is read from a template is an object for KPO in any case, and true.
    """
    known = _kinds()[kind]

    def part(of: str | None, value: Any) -> Any:
        if of and isinstance(value, list):
            return [part(of, each) for each in value]
        is_object = isinstance(value, Mapping) and (value or isinstance(value, ApiObject) or are_dicts_objects)
        return kubernetes_object(of, value, are_dicts_objects=are_dicts_objects) if of and is_object else value

    return KubernetesObject(kind, {name: part(known.get(name), value) for name, value in fields.items()})


class EnvVariable(MutableMapping[str, Any]):
    """A variable in an operator's ``env_vars``: to the user as the client's ``V1EnvVar``, or as a dict.

    It is no dict, since Airflow would then show the value as it is: it asks any other object what to show. What that
    is, is Airflow's masker's to say, by the variable's name.
    """

    #: By which the client, and our own code, read any object of the client.
    attribute_map: ClassVar[Mapping[str, str]] = {"name": "name", "value": "value", "value_from": "valueFrom"}
    openapi_types: ClassVar[Mapping[str, str]] = {"name": "str", "value": "str", "value_from": "V1EnvVarSource"}

    def __init__(self, name: object = None, value: object = None, value_from: object = None) -> None:
        self.name = name
        self.value = value
        self.value_from = value_from

    def to_dict(self) -> dict[str, Any]:
        """Return what the client's ``to_dict`` returns."""
        return {"name": self.name, "value": self.value, "value_from": _as_dict(self.value_from)}

    def serialize(self) -> dict[str, Any]:
        """Return what Airflow may show: not the value of a variable whose name says that it is secret."""
        return masked_variable(self) if self.value is not None else dict(self)

    def __repr__(self) -> str:
        return repr(self.serialize())

    def __eq__(self, other: object) -> bool:
        if isinstance(getattr(other, "attribute_map", None), Mapping):
            other = {key: value for key, value in fields_of(other).items() if value is not None}
        return dict(self) == other

    __hash__ = None  # type: ignore[assignment]  # as the client's

    def __getitem__(self, key: str) -> Any:
        value = getattr(self, _FIELDS[key])
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: object) -> None:
        setattr(self, _FIELDS[key], value)

    def __delitem__(self, key: str) -> None:
        setattr(self, _FIELDS[key], None)

    def __iter__(self) -> Iterator[str]:
        return (key for name, key in self.attribute_map.items() if getattr(self, name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return True


_FIELDS = {key: name for name, key in EnvVariable.attribute_map.items()}


def variables(value: Any) -> Any:
    """Make variables of a dict of texts, or of a list of objects; what is neither stays what it is."""
    if isinstance(value, Mapping):
        return [EnvVariable(name, each) for name, each in value.items()]
    return [_variable(each) for each in value] if isinstance(value, list | tuple) else value


def _variable(value: object) -> object:
    try:
        fields = fields_of(value)
    except TypeError:
        return value
    return EnvVariable(**{_FIELDS[key]: each for key, each in fields.items()}) if set(fields) <= set(_FIELDS) else value


def objects_of(kind: str, value: Any) -> Any:
    """Make objects of the dicts that a user gives, alone or in a list; the client's objects stay what they are."""
    if isinstance(value, list | tuple):
        return [objects_of(kind, each) for each in value]
    return kubernetes_object(kind, value) if isinstance(value, Mapping) else value
