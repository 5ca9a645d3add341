"""Names that two processes, or a process and Kubernetes, must agree on."""

import re

from hypothesis import given
from hypothesis import strategies as st

from dispatcher import names

DNS_1123_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@given(name=st.text(), installation=st.text(), job_id=st.text(), attempt=st.integers(0, 10**6))
def test_a_pod_name_is_a_dns_1123_label_whatever_the_job_is_called(
    name: str, installation: str, job_id: str, attempt: int
) -> None:
    made = names.pod_name(name=name, installation=installation, job_id=job_id, attempt=attempt)
    assert DNS_1123_LABEL.fullmatch(made)
    assert made.endswith(f"-{attempt}")


@given(name=st.text(), max_length=st.integers(3, 63))
def test_a_slug_is_a_label_of_at_most_the_given_length(name: str, max_length: int) -> None:
    made = names.slug(name, max_length)
    assert DNS_1123_LABEL.fullmatch(made)
    assert len(made) <= max_length


def test_pod_names_tell_jobs_installations_and_attempts_apart() -> None:
    asked = [("a", "j1", 1), ("a", "j1", 2), ("a", "j2", 1), ("b", "j1", 1)]
    made = {names.pod_name(name="same", installation=i, job_id=j, attempt=n) for i, j, n in asked}
    assert len(made) == len(asked)


def test_a_pod_name_never_changes() -> None:
    made = names.pod_name(name="Passing Test!", installation="podrelay", job_id="abc", attempt=1)
    assert made == "passing-test-d73f0d6feb-1"


def test_every_key_is_podrelays_own() -> None:
    made = [
        *(make("x") for make in (names.job, names.events, names.log, names.bell, names.key, names.active)),
        *(make("x") for make in (names.recent, names.workers, names.dead_letters, names.control, names.worker)),
        *(names.message_list("x", 0), names.message_list("x", 9), names.queues(), names.GENERATION),
    ]
    assert all(key.startswith(names.PREFIX) for key in made)
    assert len(set(made)) == len(made)
