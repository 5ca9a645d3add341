"""What `podrelay submit` makes of its file and flags."""

from typing import Any

import pytest

from dispatcher.cli import spec_source
from dispatcher.errors import InvalidSpecError


def test_flags_win_over_the_file_and_maps_are_merged() -> None:
    file = {"image": "a", "name": "n", "labels": {"x": "1", "y": "1"}, "env": {"A": "file", "B": "file"}}
    flags = {
        "image": "b",
        "labels": {"y": "2"},
        "env": spec_source.env(["B=flag=1"], ["C=db/password"]),
        "key": None,
        "annotations": {},
    }
    assert spec_source.merged(file, flags) == {
        "image": "b",
        "name": "n",
        "labels": {"x": "1", "y": "2"},
        "env": {
            "A": "file",
            "B": {"value": "flag=1"},
            "C": {"valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        },
    }


def test_flags_win_over_a_files_list_of_variables_by_name() -> None:
    file = {"env": [{"name": "A", "value": "file"}, {"name": "B", "value": "file"}]}
    assert spec_source.merged(file, {"env": spec_source.env(["B=flag"], None)}) == {
        "env": [{"name": "A", "value": "file"}, {"name": "B", "value": "flag"}]
    }


@pytest.mark.parametrize(
    ("text", "seconds"), [(None, None), ("90", 90), ("1.5", 1.5), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400)]
)
def test_durations_are_read(text: str | None, seconds: float | None) -> None:
    assert spec_source.seconds(text, "--timeout") == seconds


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: spec_source.seconds("soon", "--timeout"),
        lambda: spec_source.seconds("m", "--timeout"),
        lambda: spec_source.pairs(["A"], "--env"),
        lambda: spec_source.pairs(["=b"], "--label"),
        lambda: spec_source.env([], ["A=b"]),
        lambda: spec_source.env([], ["A=/b"]),
    ],
)
def test_a_flag_that_cannot_be_read_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidSpecError):
        wrong()
