"""What `podrelay submit` makes of its file and flags."""

from pathlib import Path
from typing import Any

import pytest

from dispatcher.cli import spec_source
from dispatcher.errors import InvalidSpecError


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image: a\n b: [\n", "line 2, column 3: mapping values are not allowed here"),
        ("- image\n", "must be a mapping of the spec's fields, not list"),
        ("", "must be a mapping of the spec's fields, not NoneType"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: but found another document"),
        ('{"image": "a",\n "name" "b"}', "line 2, column 9: expected ',' or '}', but got '<scalar>'"),
        ("image: !!python/object:os.system a", "line 1, column 8: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_with_the_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(InvalidSpecError) as refused:
        spec_source.read_spec_file(str(path))
    assert problem in refused.value.problems[0]
    assert refused.value.source == str(path)


@pytest.mark.parametrize("content", [None, b"image: \xff\xfe"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidSpecError, match="cannot be read"):
        spec_source.read_spec_file(str(path))


def test_json_with_tabs_is_read_although_yaml_forbids_them(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text('{\n\t"image": "a"\n}')
    assert spec_source.read_spec_file(str(path)) == {"image": "a"}


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
        "env": [
            {"name": "A", "value": "file"},
            {"name": "B", "value": "flag=1"},
            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        ],
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
