"""Versions as workers and specs name them, and what they are compared by."""

import pytest

from dispatcher.version import SINCE, VERSION, check_needed, is_older, latest, needed_version, release_of


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("0.2.0", (0, 2, 0)),
        ("1.20", (1, 20, 0)),
        ("3", (3, 0, 0)),
        ("0.3.0rc1", (0, 3, 0)),
        ("0.3.0.dev4+gabc", (0, 3, 0)),
        ("", (0, 0, 0)),
        ("junk", (0, 0, 0)),
    ],
)
def test_a_version_is_compared_by_its_three_numbers(version: str, release: tuple[int, int, int]) -> None:
    assert release_of(version) == release


def test_older_is_by_number_and_not_by_text() -> None:
    assert is_older("0.9.0", "0.10")
    assert not is_older("0.10.0", "0.9.9")
    assert not is_older("0.2.0", "0.2")
    assert is_older("", "0.0.1")


def test_the_latest_is_written_with_three_numbers() -> None:
    assert latest(["0.9", "0.10", "0.2.3"]) == "0.10.0"
    assert latest([]) == ""


def test_a_spec_needs_the_version_that_knows_all_its_fields() -> None:
    assert needed_version(["image", "args"]) == ""
    assert needed_version(["image", "min_worker_version"]) == "0.2.0"


def test_this_version_has_what_the_table_says() -> None:
    for field, since in SINCE.items():
        assert check_needed(since) == since
        assert not is_older(VERSION, since), f"{field} is noted under a version that is yet to come: raise VERSION"


@pytest.mark.parametrize("text", ["", "v0.2", "0.2.0.1", "0.2rc1", "10000", "1..2", "0.2 ", "-1", "٣.1", "latest"])
def test_what_is_no_version_is_refused_with_words(text: str) -> None:
    with pytest.raises(ValueError, match="must be a version"):
        check_needed(text)
