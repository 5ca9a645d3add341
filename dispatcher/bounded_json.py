"""JSON that anybody may have written: read within bounds of size and depth, raising :class:`ValueError` only.

``json.loads`` alone ends in a RecursionError on ``[[[[…``, guesses at UTF-16, takes ``NaN`` and ``1e999``, and lets
half a surrogate pair through, which no UTF-8 can carry: each of them raises later, where nobody expects it.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

#: Deeper than any Kubernetes object; json and pydantic stop at twice that and more.
MAX_DEPTH: Final = 100

#: A string, also one that never ends: it must be looked through once only, whatever is in it.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?', re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_PLAIN: Final = (int, bool, type(None))
_HALF_A_PAIR: Final = re.compile("[\ud800-\udfff]")


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


def check_bounded(value: object, *, max_nodes: int, max_depth: int = MAX_DEPTH) -> None:
    """Make sure that plain data (from JSON, from YAML, from a caller) can be encoded as JSON, and ends.

    A YAML alias may repeat a part without bound, or contain itself.

    Raises:
        ValueError: it has more than ``max_nodes`` values, is nested deeper than ``max_depth``, or has half a surrogate
            pair or a number that is none.
    """
    seen, depth, level = 1, 0, [value]
    while level:
        below: list[object] = []
        for node in level:
            if type(node) in _PLAIN:
                continue
            below += _parts(node)
            if seen + len(below) > max_nodes:
                raise ValueError(f"more than {max_nodes} values")
        if below and depth == max_depth:
            raise ValueError(f"nested deeper than {max_depth} levels")
        seen, depth, level = seen + len(below), depth + 1, below


def _parts(node: object) -> Iterable[object]:
    match node:
        case str():
            if not node.isascii() and (found := _HALF_A_PAIR.search(node)):
                raise ValueError(f"half a surrogate pair (U+{ord(found[0]):04X}): no UTF-8 can carry it")
        case float():
            if not math.isfinite(node):
                raise ValueError(f"{node} is no finite number")
        case Mapping():
            return [*node.keys(), *node.values()]
        case list() | tuple() | set() | frozenset():
            return node
    return ()


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
