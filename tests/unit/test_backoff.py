"""How long is waited before the next try."""

import pytest

from dispatcher.backoff import JitteredBackoff
from worker.cluster.backoff import Backoff
from worker.cluster.responses import ClusterUnavailableError

#: Pauses are jittered: what is true of each is tried so often.
OFTEN = 50


@pytest.mark.parametrize(
    ("first_s", "longest_s", "whole_s"),
    [
        (0.2, 5.0, [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]),  # a reader
        (0.2, 3.0, [0.2, 0.4, 0.8, 1.6, 3.0, 3.0]),  # the worker's steps in Redis
        (1.0, 5.0, [1.0, 2.0, 4.0, 5.0]),  # a trigger
        (0.5, 30.0, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0]),  # a launch
        (5.0, 3.0, [3.0, 3.0]),
    ],
)
def test_each_failure_doubles_the_pause_up_to_the_longest(
    first_s: float, longest_s: float, whole_s: list[float]
) -> None:
    for _ in range(OFTEN):
        backoff = JitteredBackoff(first_s=first_s, longest_s=longest_s)
        pauses_s = [backoff.failed() for _ in whole_s]
        assert backoff.failures == len(whole_s)
        assert all(whole / 2 <= pause <= whole for pause, whole in zip(pauses_s, whole_s, strict=True))


def test_two_who_failed_together_come_back_apart() -> None:
    assert len({JitteredBackoff(first_s=1.0, longest_s=1.0).failed() for _ in range(OFTEN)}) > OFTEN // 2


def test_a_success_begins_anew() -> None:
    backoff = JitteredBackoff(first_s=1.0, longest_s=60.0)
    for _ in range(5):
        backoff.failed()
    backoff.succeeded()
    assert backoff.failures == 0
    assert backoff.failed() <= 1.0


def test_no_number_of_failures_is_too_many() -> None:
    backoff = JitteredBackoff(first_s=0.2, longest_s=10.0)
    assert all(backoff.failed() <= 10.0 for _ in range(2000))
    assert backoff.failed() >= 5.0


@pytest.mark.parametrize(
    ("retry_after_s", "least_s", "most_s"),
    [(0.0, 0.5, 1.0), (0.1, 0.5, 1.0), (7.0, 7.0, 8.4), (120.0, 120.0, 144.0)],
)
def test_what_the_api_server_asks_for_is_waited_out(retry_after_s: float, least_s: float, most_s: float) -> None:
    error = ClusterUnavailableError("429: too many requests", retry_after_s=retry_after_s)
    for _ in range(OFTEN):
        assert least_s <= Backoff(first_s=1.0).failed(error) <= most_s


def test_other_errors_ask_for_nothing() -> None:
    for _ in range(OFTEN):
        assert Backoff(first_s=1.0).failed(OSError("no route")) <= 1.0


def test_a_row_of_failures_tells_since_when() -> None:
    back_off = Backoff()
    assert back_off.since is None
    back_off.failed()
    since = back_off.since
    assert since is not None
    back_off.failed()
    assert back_off.since == since
    back_off.succeeded()
    assert back_off.since is None
