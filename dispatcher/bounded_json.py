"""Reading JSON that anybody may have written: bounded in size and depth, and :class:`ValueError` is all that it raises.

``json.loads`` alone ends in a RecursionError on ``[[[[…``, guesses at UTF-16, takes ``NaN`` and ``1e999``, and lets
half a surrogate pair through, which no UTF-8 can carry: each of them raises later, where nobody expects it.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

#: Deeper than any Kubernetes object; json and pydantic stop at twice that and more.
MAX_DEPTH: Final = 100

#: A string, also one that never ends: it must be looked through once only, whatever is in it.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")


def loads_bounded(data: bytes, *, max_bytes: int, max_depth: int = MAX_DEPTH) -> Any:
    """What ``json.loads`` makes of UTF-8 that is JSON by RFC 8259, with finite numbers and whole characters.

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


def check_bounded(value: object, *, max_nodes: int, max_depth: int = MAX_DEPTH) -> None:
    """Make sure that plain data (of JSON, of YAML, of a caller) can be encoded as JSON, and has an end: a YAML alias
    may repeat a part without bound, or hold itself.

    Raises:
        ValueError: it has more than ``max_nodes`` values, is nested deeper than ``max_depth``, or has half a pair.
    """
    seen = 0
    waiting: list[tuple[object, int]] = [(value, 0)]
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        if isinstance(node, str):
            _check_text(node)
            continue
        parts = _parts(node)
        if parts and depth == max_depth:
            raise ValueError(f"nested deeper than {max_depth} levels")
        if seen + len(waiting) + len(parts) > max_nodes:
            raise ValueError(f"more than {max_nodes} values")
        waiting += [(part, depth + 1) for part in parts]


def _parts(node: object) -> list[object]:
    match node:
        case Mapping():
            return [*node.keys(), *node.values()]
        case list() | tuple() | set() | frozenset():
            return list(node)
        case _:
            return []


def _check_depth(data: bytes, max_depth: int) -> None:
    depth = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NOT_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > max_depth:
                raise ValueError(f"nested deeper than {max_depth} levels")
        else:
            depth -= 1


def _check_text(text: str) -> None:
    if not text.isascii() and (found := _HALF_A_PAIR.search(text)):
        raise ValueError(f"half a surrogate pair (U+{ord(found[0]):04X}): no UTF-8 can carry it")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number
