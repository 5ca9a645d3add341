"""The shape of a pod: whether lists, mappings, texts and numbers stand where the Kubernetes API has them.

The API server judges what a spec says in Kubernetes objects. But our code that reads them (the merge with the template,
the policy, the return value's sidecar) relies on their shape, and whoever wrote them wants to know the place at once,
not from a Go struct's name when the job has failed. So all types of a pod (:mod:`dispatcher.pod_types`) are checked
here, in their whole depth. Fields that are not listed there pass: a newer API may have them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from dispatcher.plain_text import has_control, place_in, shown
from dispatcher.pod_types import OF_SPEC, TYPES, ListOf, MapOf, Object, Shape, Word
from dispatcher.shape_hints import another_shape

#: The fields of a spec that hold Kubernetes objects, the base container's variables among them.
OBJECT_FIELDS: Final = frozenset(
    name
    for name, shape in OF_SPEC.items()
    if isinstance(shape, Object) or (isinstance(shape, ListOf) and isinstance(shape.member, Object))
)

#: How many problems are listed.
_MOST: Final = 10

#: What `apimachinery` parses (`resource.ParseQuantity`).
_QUANTITY: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?")
#: RFC 1123's names. Empty is the same as left out.
_LABEL: Final = re.compile(r"([a-z0-9]([-a-z0-9]*[a-z0-9])?)?")
_SUBDOMAIN: Final = re.compile(r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?")

_ENV_VAR: Final = Object("EnvVar")

Written = Mapping[str, str]


def shape_problems(fields: Mapping[str, Any], written: Written = MappingProxyType({})) -> list[str]:
    """List where these fields of a spec have another shape than in the API: place, what belongs there, what is there.

    Only the first few. An empty list: our code can read all of it. ``written``: how values that are no texts stand in
    the file that they come from, by their places.
    """
    found = (problem for name, value in fields.items() for problem in _problems(name, value, OF_SPEC[name], written))
    return list(islice(found, _MOST))


def fits(value: object, shape: Shape) -> bool:
    """Say whether the value itself has this shape, whatever is in it."""
    match shape:
        case Word():
            return _IS_WORD[shape](value)
        case Object() | MapOf():
            return isinstance(value, dict)
        case ListOf():
            return isinstance(value, list | tuple)


def _is_whole(value: object, bits: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)


def _is_quantity(value: object) -> bool:
    if isinstance(value, str):
        return _QUANTITY.fullmatch(value.strip()) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_name(value: object, pattern: re.Pattern[str], longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and pattern.fullmatch(value) is not None


_IS_WORD: Final[Mapping[Word, Callable[[object], bool]]] = {
    Word.TEXT: lambda value: isinstance(value, str),
    Word.FLAG: lambda value: isinstance(value, bool),
    Word.INT: lambda value: _is_whole(value, 32),
    Word.LONG: lambda value: _is_whole(value, 64),
    Word.QUANTITY: _is_quantity,
    Word.PORT: lambda value: isinstance(value, str) or _is_whole(value, 32),
    Word.LINE: lambda value: isinstance(value, str) and not has_control(value),
    Word.LABEL: lambda value: _is_name(value, _LABEL, 63),
    Word.SUBDOMAIN: lambda value: _is_name(value, _SUBDOMAIN, 253),
    Word.ANY: lambda _: True,
}


def _problems(place: str, value: Any, shape: Shape, written: Written) -> Iterator[str]:
    if value is None:  # to the API the same as left out
        return
    if not fits(value, shape):
        yield another_shape(place, value, shape, written)
        return
    match shape:
        case Object(name):
            for field, inner in TYPES[name].items():
                yield from _problems(f"{place}.{field}", value.get(field), inner, written)
        case MapOf(member):
            for key, inner_value in value.items():
                yield from _problems(place_in(place, key), inner_value, member, written)
        case ListOf():
            yield from _of_list(place, value, shape, written)
        case Word():
            pass


def _of_list(place: str, members: Any, shape: ListOf, written: Written) -> Iterator[str]:
    first: dict[str, str] = {}
    needed = shape.key if shape.needs_key else ""
    for i, member in enumerate(members):
        here = f"{place}[{i}]"
        key = member.get(shape.key) if isinstance(member, dict) else None
        if not fits(member, shape.member) or (needed and not key):
            yield another_shape(here, member, shape.member, written, key=needed)
            continue
        problems = _problems(here, member, shape.member, written)
        variable = f" (the variable {shown(str(key))})" if shape.member == _ENV_VAR else ""
        yield from (problem + variable for problem in problems)
        if shape.is_distinct and isinstance(key, str) and first.setdefault(key, here) != here:
            taken = f"{here}: {shape.key} {shown(key)} is taken by {first[key]} already"
            yield f"{taken}: give each a {shape.key} of its own"
