"""Which variables of whoever runs the tests are none of theirs."""

import os

import pytest

from tests.support.caller_environment import foreign


@pytest.mark.parametrize(
    "name",
    [
        *("PODRELAY_REDIS_URL", "PODRELAY_NONSENSE", "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "AIRFLOW_HOME"),
        *("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW_CONN_X", "CELERY_BROKER_URL", "REDIS_URL"),
        *("http_proxy", "HTTPS_PROXY", "all_proxy", "NO_PROXY", "PYTHONPATH", "PYTHONOPTIMIZE", "FORCE_COLOR", "TZ"),
    ],
)
def test_what_is_set_for_other_programs_is_forgotten(name: str) -> None:
    assert foreign([name]) == [name]


@pytest.mark.parametrize(
    "name", ["PATH", "HOME", "LC_ALL", "TMPDIR", "PODRELAY_TEST_SLOW", "PODRELAY_TEST_REDIS_SERVERS", "PYTHONHASHSEED"]
)
def test_what_a_machine_needs_and_what_the_tests_read_is_kept(name: str) -> None:
    assert foreign([name]) == []


def test_this_run_has_none_but_its_own() -> None:
    ours = [name for name in foreign(list(os.environ)) if not name.startswith("AIRFLOW")]
    assert ours == []
