"""Junk of every type, and every place of a JSON value to put it."""

import copy
from collections.abc import Iterator
from typing import Any

JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1, 10**30, 0.5, float("nan"), float("inf"), "", "x", "9" * 5000, "²", "\ud800", "None"),
    *(
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "2026-13-01T00:00:00Z",
        "2026-01-01",
        "1970-01-01T00:00:00Z",
    ),
    *([], [[]], [None], ["x"], [{}], [{"name": None}], [{"name": 5, "type": {}}], {}, {"": None}, {"x": {"x": []}}),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every position in a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in inside:
        yield from places(member, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """What stands in this position."""
    for part in path:
        value = value[part]
    return value


def replaced(value: Any, path: tuple[Any, ...], junk: Any) -> Any:
    if not path:
        return junk
    result = copy.copy(value)
    result[path[0]] = replaced(value[path[0]], path[1:], junk)
    return result
