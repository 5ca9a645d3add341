"""A follower that keeps failing is given up, soon where there is no pod, after a minute where there is one."""

import pytest

from worker.rules.backoff_limit import FORGIVEN_AFTER_S, MAX_WAIT_S, MAX_WITH_POD, MAX_WITHOUT_POD, BackoffLimit

STEP = ("following its pod", "1", "RUNNING")


@pytest.mark.parametrize(
    ("has_pod", "most", "at_least_s", "at_most_s"),
    [(False, MAX_WITHOUT_POD, 1, 10), (True, MAX_WITH_POD, 50, 90)],
)
def test_the_last_try_has_its_time(has_pod: bool, most: int, at_least_s: float, at_most_s: float) -> None:
    backoff_limit, now, waits = BackoffLimit(), 0.0, list[float]()
    while (failed := backoff_limit.failed(STEP, now, has_pod=has_pod)).wait_s is not None:
        waits.append(failed.wait_s)
        now += failed.wait_s
    assert failed.times == most
    assert at_least_s < sum(waits) < at_most_s
    assert waits == sorted(waits)
    assert waits[-1] <= MAX_WAIT_S


def test_other_steps_have_their_own_count_and_do_not_reset_it() -> None:
    backoff_limit = BackoffLimit()
    times = [backoff_limit.failed((step,), 0.0, has_pod=True).times for step in "abababb"]
    assert times == [1, 1, 2, 2, 3, 3, 4]


def test_a_failure_of_long_ago_is_forgiven() -> None:
    backoff_limit = BackoffLimit()
    for n in range(100):
        assert backoff_limit.failed(STEP, n * (FORGIVEN_AFTER_S + 1), has_pod=True).times == 1
