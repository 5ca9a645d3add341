"""As which service account a worker speaks to its API server: what its own token says, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.service_account_tokens import bound_token, jwt, legacy_token
from worker.cluster.kubeconfig import AuthInfo
from worker.cluster.service_account import ServiceAccount, service_account_of

WORKER = ServiceAccount("podrelay", "podrelay-worker")


def of_token(token: str) -> ServiceAccount | None:
    return service_account_of(AuthInfo(token=token))


def test_a_pod_s_token_names_account_namespace_and_pod(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(bound_token("podrelay", "podrelay-worker", "podrelay-worker-7d9-x2") + "\n")
    found = service_account_of(AuthInfo(token_file=path))
    assert found == ServiceAccount("podrelay", "podrelay-worker", "podrelay-worker-7d9-x2")


@pytest.mark.parametrize(
    "token", [bound_token("podrelay", "podrelay-worker"), legacy_token("podrelay", "podrelay-worker")]
)
def test_other_tokens_of_a_service_account_name_no_pod(token: str) -> None:
    assert of_token(token) == WORKER


def test_whoever_is_impersonated_counts() -> None:
    headers = (("Impersonate-User", "system:serviceaccount:podrelay:podrelay-worker"), ("Impersonate-Group", "x"))
    assert service_account_of(AuthInfo(token=bound_token("a", "b"), impersonation=headers)) == WORKER
    assert (
        service_account_of(AuthInfo(token=bound_token("a", "b"), impersonation=(("Impersonate-User", "ann"),))) is None
    )


@pytest.mark.parametrize(
    "token",
    [
        "abc",
        "a.b.c",
        "..",
        jwt([]),
        jwt(None),
        jwt({}),
        jwt({"sub": "ann"}),
        jwt({"sub": ["system:serviceaccount:a:b"]}),
        jwt({"sub": "system:serviceaccount:a"}),
        jwt({"sub": "system:serviceaccount::b"}),
        "a." + "W" * 5000 + ".c",
    ],
)
def test_a_user_that_is_no_service_account_is_none(token: str) -> None:
    assert of_token(token) is None


def test_no_user_and_a_token_that_cannot_be_read_are_none(tmp_path: Path) -> None:
    assert service_account_of(AuthInfo()) is None
    assert service_account_of(AuthInfo(token_file=tmp_path / "none")) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@given(json_values, json_values)
def test_whatever_stands_in_the_claims_reading_them_raises_nothing(pod: object, private: object) -> None:
    account = "system:serviceaccount:podrelay:podrelay-worker"
    assert of_token(jwt({"sub": account, "kubernetes.io": private})) is not None
    assert of_token(jwt({"sub": account, "kubernetes.io": {"pod": pod}})) is not None
    of_token(jwt(pod))
