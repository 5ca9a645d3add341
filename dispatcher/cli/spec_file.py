"""Reads the file of `podrelay submit -f`, YAML or JSON, more strictly than their libraries do.

What a person meant and what YAML makes of it differ: the second of two equal keys wins, ``22:22`` is 1342, a day is a
date, three lines of aliases are a billion values. Here such things are refused with their line and place, and aliases
cost what they stand for. How a value that is no text was written (``yes``, ``0755``, ``1.10``) is kept beside it, so
that whoever needs a text there can say which.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dispatcher.bounded_json import check_bounded
from dispatcher.cli.yaml_data import YamlReader
from dispatcher.errors import InvalidSpecError
from dispatcher.plain_text import place_in, shown

#: The largest file that is read: what is submitted is a quarter of it at most, comments and indents apart.
MAX_FILE_BYTES: Final = 1024 * 1024
#: A spec of the largest size has fewer values. An alias of YAML may stand for more than the file has.
MAX_VALUES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class SpecFile:
    """What the file says. ``written``: how values that are no texts stand in it, by place."""

    data: dict[str, Any]
    written: Mapping[str, str]


class _Number(float):
    """A number of JSON that remembers how it was written."""

    written: str


def read_spec_file(path: str) -> SpecFile:
    """Read YAML or JSON; ``-`` is standard input.

    Raises:
        InvalidSpecError: it cannot be read, is neither, or is no mapping; with the line where there is one.
    """
    source = "standard input" if path == "-" else path
    try:
        data, written = _parsed(_read(path))
        check_bounded(data, max_nodes=MAX_VALUES)
    except RecursionError:
        raise InvalidSpecError(["nested too deep"], source) from None
    except ValueError as error:
        raise InvalidSpecError([str(error)], source) from None
    if data is None:
        raise InvalidSpecError(["it is empty: write the spec's fields, one a line, as image: python:3.12"], source)
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else f"{shown(json.dumps(data, ensure_ascii=False))}"
        raise InvalidSpecError([f"must be a mapping of the spec's fields, not {kind}"], source)
    return SpecFile(data, written)


def _read(path: str) -> str:
    if path == "-" and sys.stdin is None:
        raise ValueError("cannot be read: it is closed")
    try:
        with nullcontext(sys.stdin.buffer) if path == "-" else Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line}: cannot be read: byte 0x{raw[error.start]:02x} is no UTF-8") from None


def _parsed(text: str) -> tuple[Any, Mapping[str, str]]:
    if text.lstrip().startswith("{"):
        try:
            return _parsed_json(text)
        except json.JSONDecodeError:
            pass  # YAML's flow style begins so too, and its messages name the line as well
    reader = YamlReader(max_values=MAX_VALUES)
    return reader.read(text), reader.written


def _parsed_json(text: str) -> tuple[Any, Mapping[str, str]]:
    #: The objects themselves too: the number of one that is gone would be another's.
    twice: dict[int, tuple[dict[str, Any], str]] = {}

    def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice[id(found)] = found, next(name for i, name in enumerate(names) if name in names[:i])
        return found

    data = json.loads(text, object_pairs_hook=to_object, parse_float=_number)
    written: dict[str, str] = {}
    _look_through(data, "", twice, written)
    return data, written


def _number(text: str) -> _Number:
    number = _Number(text)
    number.written = text
    return number


def _look_through(value: object, place: str, twice: Mapping[int, tuple[Any, str]], written: dict[str, str]) -> None:
    """Find what stands twice, and how numbers were written."""
    match value:
        case dict():
            if found := twice.get(id(value)):
                raise ValueError(f"{place_in(place, found[1])}: this name stands twice: leave one out")
            for key, inner in value.items():
                _look_through(inner, place_in(place, key), twice, written)
        case list():
            for i, inner in enumerate(value):
                _look_through(inner, place_in(place, i), twice, written)
        case _Number():
            written[place] = value.written
