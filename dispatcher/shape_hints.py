"""Says what was meant where a value has another shape than the Kubernetes API's: a sentence to act on.

People write what Docker, Compose or a shell take: ``R=north`` for a variable, ``8080:80`` for a port, one text for a
list. What can be told from such a value is written out as it must stand.
"""

import json
import re
import shlex
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from dispatcher.plain_text import shown, visible
from dispatcher.pod_types import ListOf, MapOf, Object, Shape, Word

_MEANT: Final = {
    Word.TEXT: "a text",
    Word.FLAG: "true or false",
    Word.INT: "a whole number (of 32 bits)",
    Word.LONG: "a whole number (of 64 bits)",
    Word.QUANTITY: "a quantity, as 500m or 1Gi",
    Word.PORT: "a port's number or name",
    Word.LINE: "a text without control characters",
    Word.LABEL: "a DNS label (lower-case letters, digits and dashes, at most 63)",
    Word.SUBDOMAIN: "a DNS name (lower-case letters, digits, dashes and dots, at most 253)",
    Word.ANY: "anything",
}
_SHOWN_CHARACTERS: Final = 40
_LONGEST_HINT: Final = 120
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,8})")
_OCTAL: Final = re.compile(r"0[0-7]{1,9}")
#: Units that people write, as Kubernetes writes them.
_UNITS: Final = re.compile(r"([0-9.]+) *([kKMGT])(i?)[bB]?")


def another_shape(place: str, value: Any, shape: Shape, written: Mapping[str, str], *, key: str = "") -> str:
    """Say that another shape belongs in this place, what is there, and what was perhaps meant.

    ``key``: the field that the value needs, as others of its list have it. ``written``: how values that are no texts
    stand in their file, by place.
    """
    if shape in (Word.LINE, Word.LABEL, Word.SUBDOMAIN) and not isinstance(value, str):
        shape = Word.TEXT
    said = written.get(place)
    as_written = f" (written {shown(said)})" if said and said != _json(value) else ""
    is_long = isinstance(value, str) and len(value) > _LONGEST_HINT  # to take apart what is not shown would only cost
    hint = "" if is_long else _hint(value, shape, said)
    short = hint if hint and len(hint) <= _LONGEST_HINT else ""
    return f"{place}: must be {meant(shape, key)}, not {found(value)}{as_written}" + (short and f": write {short}")


def meant(shape: Shape, key: str = "") -> str:
    """Name a shape."""
    match shape:
        case Word():
            return _MEANT[shape]
        case Object():
            return f"a mapping with a {key}" if key else "a mapping"
        case MapOf(member):
            return f"a mapping of texts to {'quantities' if member is Word.QUANTITY else 'texts'}"
        case ListOf(member, field, needs_key=needs_key):
            return f"a list, each of its members {meant(member, field if needs_key else '')}"


def found(value: object) -> str:
    """Name what is there, briefly."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return f"the text {visible(repr(value[:_SHOWN_CHARACTERS]))}"
        case float() if not value.is_integer():
            return "a number with a fraction"
        case int() | float():
            return "a number"
        case dict():
            return f"a mapping of {', '.join(shown(str(name)[:20]) for name in islice(value, 3)) or 'nothing'}"
        case _:
            return "a list"


def _hint(value: Any, shape: Shape, written: str | None) -> str:
    """Write the value as it must stand; nothing where that cannot be told."""
    match shape, value:
        case Word.TEXT, (None | bool() | int() | float()):
            return _quoted(value, written)
        case Word(), str(text):
            return _word_in(text.strip(), shape)
        case ((Word.INT | Word.LONG), float()) if value.is_integer() and abs(value) < 2**31:
            return _json(int(value))
        case Object(name), _:
            return _object_of(name, value)
        case MapOf(Word.TEXT), list():
            return _mapping_of(value)
        case ListOf(Word.TEXT), str(text):
            return _json(_words(text))
        case ListOf(Object(name)), dict():
            return _list_of(name, value)
        case ListOf(Object(name)), str():
            return f"[{member}]" if (member := _object_of(name, value)) else ""
        case ListOf(Word.TEXT), (bool() | int() | float()):
            return f"[{_quoted(value, written)}]"
    return ""


def _quoted(value: object, written: str | None) -> str:
    if value is None:
        return f'"" for an empty text{f", or {_json(written)} in quotes" if written else ""}'
    return f"{_json(_json(value) if written is None else written)} in quotes"


def _word_in(text: str, shape: Word) -> str:
    if shape is Word.FLAG and text.lower() in ("true", "yes", "on", "false", "no", "off"):
        return f"{_json(text.lower() in ('true', 'yes', 'on'))} without quotes"
    if shape in (Word.INT, Word.LONG) and _NUMBER.fullmatch(text):
        return f"{text} without quotes"
    if shape in (Word.INT, Word.LONG) and _OCTAL.fullmatch(text):
        return f"{int(text, 8)}, which is {text} in octal"
    if shape is Word.QUANTITY and (amount := _UNITS.fullmatch(text)):
        number, unit, binary = amount.groups()
        return f"{number}{'k' if unit in 'kK' and not binary else unit.upper()}{binary}"
    if shape in (Word.LABEL, Word.SUBDOMAIN):
        parts = re.split(r"\.", text.lower()) if shape is Word.SUBDOMAIN else [text.lower()]
        return ".".join(filter(None, (re.sub(r"[^a-z0-9]+", "-", part).strip("-")[:63] for part in parts)))
    return ""


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an open quote
        return [text]


def _mapping_of(pairs: list[Any]) -> str:
    """Write ``[A=b]`` and ``[{name: A, value: b}]`` as a mapping."""
    mapping = {}
    for pair in pairs:
        match pair:
            case str() if "=" in pair:
                name, _, value = pair.partition("=")
                mapping[name] = value
            case {"name": str(name), "value": str(value)}:
                mapping[name] = value
            case _:
                return ""
    return _flow(mapping) if mapping else ""


def _list_of(name: str, mapping: dict[str, Any]) -> str:
    """Write a mapping as the list that it must be: of one member, or of one member for each of its names."""
    if name == "EnvVar" and all(isinstance(value, str) for value in mapping.values()) and "name" not in mapping:
        return "[" + ", ".join(_flow({"name": key, "value": value}) for key, value in mapping.items()) + "]"
    return "a list of it: [{…}], or a dash before it" if mapping else "[] for none"


def _object_of(name: str, value: object) -> str:
    """Write a text or number as the object that it stands for elsewhere: with Docker, Compose, or a shell."""
    match name, value:
        case "EnvVar", str(text) if "=" in text:
            key, _, rest = text.partition("=")
            return _flow({"name": key, "value": rest})
        case "ContainerPort", int() if not isinstance(value, bool):
            return _flow({"containerPort": value})
        case "ContainerPort", str(text) if text.rpartition(":")[2].isdecimal():
            return _flow({"containerPort": int(text.rpartition(":")[2][:18])})
        case "VolumeMount", str(text):
            return _flow({"name": "VOLUME", "mountPath": text.split(":")[1] if ":" in text else text})
        case "Volume", str(text):
            return _flow({"name": text, "emptyDir": {}})
        case "Container", str(text):
            return _flow({"name": "NAME", "image": text})
        case "EnvFromSource", str(text):
            return f"{_flow({'configMapRef': {'name': text}})}, or secretRef"
        case (("LocalObjectReference" | "ConfigMapKeySelector" | "SecretKeySelector"), str(text)):
            return _flow({"name": text} if name == "LocalObjectReference" else {"name": text, "key": "KEY"})
    return ""


def _flow(value: object) -> str:
    """Write a value as YAML's flow style, without quotes where none are needed."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z/][-\w./]*", value) and value.lower() not in _NO_TEXT:
        return value
    return _json(value)


#: What YAML does not read as a text when it stands without quotes.
_NO_TEXT: Final = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def _json(value: object) -> str:
    return visible(json.dumps(value, ensure_ascii=False))
