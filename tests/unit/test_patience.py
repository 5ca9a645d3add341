"""A follower that keeps failing is given up, soon where there is no pod, after a minute where there is one."""

import pytest

from worker.rules.patience import FORGIVEN_AFTER_S, LONGEST_WAIT_S, MOST_WITH_POD, MOST_WITHOUT_POD, Patience

STEP = ("following its pod", "1", "RUNNING")


@pytest.mark.parametrize(
    ("has_pod", "most", "at_least_s", "at_most_s"),
    [(False, MOST_WITHOUT_POD, 1, 10), (True, MOST_WITH_POD, 50, 90)],
)
def test_the_last_try_has_its_time(has_pod: bool, most: int, at_least_s: float, at_most_s: float) -> None:
    patience, now, waits = Patience(), 0.0, list[float]()
    while (failed := patience.failed(STEP, now, has_pod=has_pod)).wait_s is not None:
        waits.append(failed.wait_s)
        now += failed.wait_s
    assert failed.times == most
    assert at_least_s < sum(waits) < at_most_s
    assert waits == sorted(waits)
    assert waits[-1] <= LONGEST_WAIT_S


def test_other_steps_have_their_own_count_and_do_not_reset_it() -> None:
    patience = Patience()
    times = [patience.failed((step,), 0.0, has_pod=True).times for step in "abababb"]
    assert times == [1, 1, 2, 2, 3, 3, 4]


def test_a_failure_of_long_ago_is_forgiven() -> None:
    patience = Patience()
    for n in range(100):
        assert patience.failed(STEP, n * (FORGIVEN_AFTER_S + 1), has_pod=True).times == 1
