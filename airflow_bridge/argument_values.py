"""What users give for an argument, as the API's JSON: converted where only one thing can be meant, else refused.

A template renders to a text, and with ``render_template_as_native_obj`` to anything at all. Python would take a text
for a list of its characters, and the API server knows no arguments of tasks. So each argument is checked for its kind
here, after rendering, and what is refused is told by the argument's name, with what to write instead.
"""

import datetime as dt
import os
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from numbers import Number
from uuid import UUID

from airflow_bridge.api_json import ApiObject, Json, fields_of, to_json

#: What no process and no UTF-8 can be given: NUL, and half a surrogate pair.
_UNSPEAKABLE = re.compile("[\0\ud800-\udfff]")

#: What has one obvious text.
_SCALARS = (str, bool, Number, dt.date, dt.time, dt.timedelta, UUID, os.PathLike)

_A_TEMPLATE = "a template makes a list only where the DAG has render_template_as_native_obj=True"


class PodArgumentsError(ValueError):
    """An argument that KPO would refuse too, or that the API server would."""


def unchanged(name: str, value: object) -> object:
    """Return the value: it is the API server's to judge."""
    return value


def text(name: str, value: object) -> str | None:
    """Make a text of a scalar; None is nothing."""
    return None if value is None else _text(name, value)


def texts(name: str, value: object) -> list[str]:
    """Make a list of texts, as a command is; nothing is an empty list."""
    return [_text(f"{name}[{i}]", member) for i, member in enumerate(members(name, value, "texts"))]


def texts_by_name(name: str, value: object) -> dict[str, str]:
    """Make a mapping of texts, as labels are; None becomes the empty text, as in KPO."""
    pairs = _mapping(name, value, 'e.g. {"team": "a"}').items() if value is not None else ()
    return {_text(name, key): "" if each is None else _text(f"{name}[{key!r}]", each) for key, each in pairs}


def whole_number(name: str, value: object) -> int | None:
    """Take a whole number, or nothing."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise PodArgumentsError(f"{name}: must be a whole number, not {_found(value)}")


def flag(name: str, value: object) -> bool | None:
    """Take a bool, or nothing."""
    if value is None or isinstance(value, bool):
        return value
    raise PodArgumentsError(f"{name}: must be True or False, not {_found(value)}")


def api_object(name: str, value: object) -> Json | None:
    """Translate an object of Kubernetes: the client's, or a mapping as the API writes it."""
    return None if value is None else _object(name, value)


def api_objects(name: str, value: object) -> list[Json]:
    """Translate a list of objects; nothing is an empty list, and so is a template that renders to nothing."""
    if value == "":
        return []
    return [_object(f"{name}[{i}]", member) for i, member in enumerate(members(name, value, "objects or dicts"))]


def env_variables(name: str, value: object) -> list[Json]:
    """Make variables of a mapping of texts, or of objects with name and value; nothing is an empty list.

    A variable whose value is None has none, as in KPO: it is there, and empty. Values are never told.
    """
    if value == "":
        return []
    if isinstance(value, Mapping):
        return [_variable(name, {"name": key, "value": each}) for key, each in value.items()]
    if isinstance(value, str):
        raise PodArgumentsError(f"{name}: must be a dict or a list of variables, not a text; {_A_TEMPLATE}")
    return [_variable(f"{name}[{i}]", each) for i, each in enumerate(members(name, value, "variables"))]


def pull_secrets(name: str, value: object) -> list[Json]:
    """Make references to secrets: of objects, or of names separated by commas."""
    if isinstance(value, str):
        return [{"name": each.strip()} for each in value.split(",") if each.strip()]
    return api_objects(name, value)


def config_maps(name: str, value: object) -> list[Json]:
    """Make sources of variables of the names of config maps."""
    return [{"configMapRef": {"name": each}} for each in texts(name, None if value == "" else value)]


def members(name: str, value: object, kind: str) -> Sequence[object]:
    """Return the members of a list; nothing is an empty list. ``kind``: of what, for the message.

    Raises:
        PodArgumentsError: it is a single thing, a mapping, or a set, which has no order.
    """
    if value is None:
        return ()
    # Airflow's lazy sequence of a mapped task's XComs is no list either.
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return value
    problem = f"{name}: must be a list of {kind}, not {_found(value)}"
    if isinstance(value, str):
        problem += f". Write [{_short(value)}]; {_A_TEMPLATE}"
    elif kind != "texts" and not isinstance(value, Number | set | frozenset):
        problem += ": write it in a list"
    raise PodArgumentsError(problem)


def _text(name: str, value: object) -> str:
    if isinstance(value, Enum) and not isinstance(value, str):
        value = value.value
    if not isinstance(value, _SCALARS):
        raise PodArgumentsError(f"{name}: must be a text, not {_found(value)}")
    made = _text_of(value)
    if found := _UNSPEAKABLE.search(made):
        raise PodArgumentsError(f"{name}: holds U+{ord(found[0]):04X} at character {found.start()}; no pod can have it")
    return made


def _text_of(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Enum():
            return str(value.value)
        case dt.date() | dt.time():
            return value.isoformat()
        case os.PathLike():
            return os.fsdecode(value)
        case _:
            return str(value)


def _mapping(name: str, value: object, example: str) -> Mapping[object, object]:
    if not isinstance(value, Mapping):
        raise PodArgumentsError(f"{name}: must be a dict, {example}, not {_found(value)}")
    return value


def _object(name: str, value: object) -> Json:
    try:
        found = to_json(value)
    except (TypeError, AttributeError, RecursionError) as error:
        raise PodArgumentsError(f"{name}: is no Kubernetes object: {_short(str(error), 200)}") from error
    if not isinstance(found, dict):
        raise PodArgumentsError(f"{name}: must be an object of Kubernetes or a dict, not {_found(value)}")
    return found


def _variable(where: str, given: object) -> Json:
    try:
        fields = {} if isinstance(given, str) else dict(fields_of(given))
    except (TypeError, RecursionError):
        fields = {}
    if fields.get("name") is None:
        raise PodArgumentsError(f'{where}: must be a variable: write {{"name": …, "value": …}}')
    list_name = where.partition("[")[0]
    variable = _text(f"{list_name}: a name", fields.pop("name"))
    where, value = f"{list_name}[{variable!r}]", fields.pop("value", None)
    # An object of the client is true, even if it is empty.
    made = ApiObject(name=variable, **_object(where, fields))
    return ApiObject(made, value=_text(where, value)) if value is not None else made


def _found(value: object) -> str:
    match value:
        case None:
            return "None"
        case str():
            return f"the text {_short(value)}"
        case bool() | Number():
            return f"the {type(value).__name__} {_short(str(value))}"
        case Mapping():
            return "a dict"
        case list() | tuple():
            return "a list"
        case set() | frozenset():
            return "a set, which has no order"
        case _:
            return f"{type(value).__module__}.{type(value).__qualname__}"


def _short(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else f"{text[:most]}…")
