"""JSON from outside is read within bounds, and nothing but ValueError comes of it."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.bounded_json import MAX_DEPTH, check_bounded, loads_bounded

PLENTY = 16 * 1024 * 1024

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(plain, st.booleans())
def test_what_is_json_is_read_as_json_reads_it(value: Any, ensure_ascii: bool) -> None:
    assert loads_bounded(json.dumps(value, ensure_ascii=ensure_ascii).encode(), max_bytes=PLENTY) == value


@given(st.binary() | st.text(alphabet='[]{}",:\\u0d8 1e.-NaInfty').map(str.encode))
def test_any_bytes_are_a_value_or_a_value_error(data: bytes) -> None:
    try:
        value = loads_bounded(data, max_bytes=PLENTY)
    except ValueError:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[" * 1000, "nested deeper than 100"),
        (b'{"a":' * 100_000, "nested deeper than 100"),
        (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 100"),
        (b'[1, "' + b'\\"' * 500_000, "Unterminated string"),
        (b'"\\', "Unterminated string"),
        (b'"' + b"x" * PLENTY, "at most 16777216"),
        ('["ä"]'.encode("utf-16"), "can't decode byte"),
        (b'\xef\xbb\xbf["x"]', "BOM"),
        (b'"\xff"', "can't decode byte"),
        (b"", "Expecting value"),
        (b"NaN", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"1e999", "1e999 is no finite number"),
        (b"1" * 5000, "digit"),
        (b'{"a": "\\ud800"}', r"half a surrogate pair \(U\+D800\)"),
        (b'{"\\uDFFF": 1}', r"half a surrogate pair \(U\+DFFF\)"),
    ],
)
def test_what_would_raise_later_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        loads_bounded(data, max_bytes=PLENTY)


def test_brackets_in_texts_are_not_counted() -> None:
    text = '[[[["' * 1000
    assert loads_bounded(json.dumps([text, "\\", text]).encode(), max_bytes=PLENTY) == [text, "\\", text]


def test_what_is_nested_just_deep_enough_is_read() -> None:
    assert loads_bounded(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, max_bytes=PLENTY)
    with pytest.raises(ValueError, match="deeper"):
        loads_bounded(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), max_bytes=PLENTY)


@given(plain)
def test_plain_data_is_within_the_bounds_that_its_json_is_in(value: Any) -> None:
    check_bounded(value, max_nodes=len(json.dumps(value)))


def test_data_that_holds_itself_or_repeats_without_bound_is_refused() -> None:
    itself: list[Any] = []
    itself.append(itself)
    with pytest.raises(ValueError, match="nested deeper"):
        check_bounded(itself, max_nodes=1000)
    laughs: list[Any] = ["ha"]
    for _ in range(60):
        laughs = [laughs] * 10
    with pytest.raises(ValueError, match="more than 1000 values"):
        check_bounded(laughs, max_nodes=1000)


def test_a_deep_dict_is_refused() -> None:
    deep: Any = math.pi
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="nested deeper"):
        check_bounded({"pod_template": deep}, max_nodes=1000)
