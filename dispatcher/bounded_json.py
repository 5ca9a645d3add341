"""JSON that anybody may have written: read within bounds of size and depth, raising :class:`ValueError` only.

``json.loads`` alone ends in a RecursionError on ``[[[[…``, guesses at UTF-16, takes ``NaN`` and ``1e999``, and lets
half a surrogate pair through, which no UTF-8 can carry: each of them raises later, where nobody expects it.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final, NoReturn

from dispatcher.plain_text import half_a_pair, place_in, shown, unusable

#: Deeper than any Kubernetes object; json and pydantic stop at twice that and more.
MAX_DEPTH: Final = 100

#: A string, also one that never ends: it must be looked through once only, whatever is in it.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def loads_bounded(data: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """Read UTF-8 that is JSON by RFC 8259, with finite numbers and whole characters.

    Raises:
        ValueError: it is not, or it is longer or nested deeper than allowed. Its text says what and where.
    """
    if len(data) > max_bytes:
        raise ValueError(f"{len(data)} bytes long: at most {max_bytes} are read")
    _check_depth(data, max_depth)
    value = json.loads(data.decode(), parse_constant=_refuse, parse_float=_finite)
    if rb"\u" in data:
        check_bounded(value, max_nodes=len(data), max_depth=max_depth)
    return value


class Taken(Enum):
    """What plain data may hold, beside its bounds."""

    JSON = 1  #: whole characters and finite numbers; what is no JSON is left to whoever reads it
    SPEC = 2  #: of these, what a pod can carry: no NUL, integers of 64 bits
    OBJECT = 3  #: of these, JSON alone: what nobody looks at again before it is written


def check_bounded(
    value: object, *, max_nodes: int, max_depth: int = MAX_DEPTH, taken: Taken = Taken.JSON, at: str = ""
) -> None:
    """Make sure that plain data (from JSON, from YAML, from a caller) can be encoded as JSON, and ends.

    A YAML alias may repeat a part without bound, or contain itself. ``at``: where the value itself stands.

    Raises:
        ValueError: it has more than ``max_nodes`` values, is nested deeper than ``max_depth``, or has something that is
            not taken. Its text begins with the place, where it has one: ``a[0]: half a surrogate pair …``.
    """
    where = f"{at}: " if at else ""
    seen, depth, level = 1, 0, [value]
    while level:
        below: list[object] = []
        for node in level:
            if node is None or node is True or node is False:
                continue
            try:
                below += _parts(node, taken)
            except ValueError as error:
                raise ValueError(_placed(value, node, at, str(error))) from None
            if seen + len(below) > max_nodes:
                raise ValueError(f"{where}more than {max_nodes} values")
        if below and depth == max_depth:
            raise ValueError(f"{where}nested deeper than {max_depth} levels")
        seen, depth, level = seen + len(below), depth + 1, below


def _parts(node: object, taken: Taken) -> Iterable[object]:
    """Return what is in a value; raise where it is not taken itself."""
    match node:
        case str() | int() | float():
            if why := _why_not(node, taken):
                raise ValueError(why)
            return ()
        case dict() if taken is Taken.OBJECT and (odd := [key for key in node if not isinstance(key, str)]):
            raise ValueError(f"the name {shown(str(odd[0]))} is no text: write it in quotes")
        case dict():
            return [*node.keys(), *node.values()]
        case list() | tuple():
            return node
        case _ if taken is Taken.OBJECT:
            raise ValueError(f"{type(node).__name__}: only what JSON has is taken")
        case Mapping():
            return [*node.keys(), *node.values()]
        case set() | frozenset():
            return node
    return ()


def _why_not(scalar: object, taken: Taken) -> str | None:
    match scalar:
        case str():
            return half_a_pair(scalar) if taken is Taken.JSON else unusable(scalar)
        case float():
            return None if math.isfinite(scalar) else f"{scalar} is no finite number"
        case int() if taken is not Taken.JSON and not -(2**63) <= scalar < 2**63:
            return "a number beyond 64 bits: write it as a text, in quotes"
    return None


def _placed(value: object, found: object, at: str, why: str) -> str:
    """Put the place of an odd value before what is wrong with it. It is there: the walk has just met it."""
    level: list[tuple[str, object]] = [(at, value)]
    while level:
        below: list[tuple[str, object]] = []
        for place, node in level:
            if node is found:
                return f"{place}: {why}" if place else why
            match node:
                case Mapping():
                    below += [(place, key) for key in node]
                    below += [(place_in(place, key), member) for key, member in node.items()]
                case list() | tuple() | set() | frozenset():
                    below += [(place_in(place, i), member) for i, member in enumerate(node)]
        level = below
    return why


def _check_depth(data: bytes, max_depth: int) -> None:
    depth = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > max_depth:
                raise ValueError(f"nested deeper than {max_depth} levels")
        else:
            depth -= 1


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number
