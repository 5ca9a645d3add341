"""A small fixed part of ``make chaos``."""

import random

import pytest

from tests.chaos.kinds import KINDS
from tests.chaos.run import planned_faults, planned_jobs, run_seed

#: Between them: every end of a worker, Redis restarted and failed over, the API server in every mood, restarted and
#: behind a proxy, kubelets restarted, credentials renewed, nodes lost.
SEEDS = (413, 2844)
JOBS = 40


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_breaks_the_laws_hold(seed: int) -> None:
    report = run_seed(seed, JOBS)
    assert report.violations == [], report


def test_between_them_the_seeds_have_every_kind_of_job_and_nearly_every_fault() -> None:
    faults = {fault.kind for seed in SEEDS for fault in planned_faults(random.Random(seed), JOBS)}
    assert len(faults) == 22
    assert {kind.partition("_")[0] for kind in faults} == {"worker", "redis", "api", "kubelet", "credentials", "node"}
    assert {job.kind for seed in SEEDS for job in planned_jobs(seed, JOBS)} == set(KINDS)
