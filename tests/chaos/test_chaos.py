"""A small fixed part of ``make chaos``."""

import pytest

from tests.chaos.run import run_seed

#: Between them: every end of a worker, Redis restarted and failed over, the API server in every mood, restarted and
#: behind a proxy, kubelets restarted, credentials renewed, nodes lost.
SEEDS = (281, 381)
JOBS = 40


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_breaks_the_laws_hold(seed: int) -> None:
    report = run_seed(seed, JOBS)
    assert report.violations == [], report
