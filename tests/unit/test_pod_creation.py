"""What the API server's no to a create means for the job."""

from typing import Any

import pytest

from dispatcher.status import FailureReason
from tests.support import recordings
from worker.cluster.client import ClusterRefusedError
from worker.jobs.pod_creation import Later, Refused, refusal

WEBHOOK = 'admission webhook "guard.example.com" denied the request: no'


def refused(code: int, reason: str, message: str) -> ClusterRefusedError:
    return ClusterRefusedError(code, {"kind": "Status", "reason": reason, "message": message})


def recorded_refusal(situation: str) -> ClusterRefusedError:
    lines = recordings.lines(situation)
    line = next(line for line in lines if line["kind"] == "request" and line["status"] >= 400 and "sent" in line)
    return ClusterRefusedError(line["status"], line["body"])


def forbidden(why: str) -> ClusterRefusedError:
    return refused(403, "Forbidden", f'pods "x" is forbidden: {why}')


@pytest.mark.parametrize(
    ("error", "reason", "says"),
    [
        (
            recorded_refusal("refused-404-namespace"),
            FailureReason.INVALID_SPEC,
            "Create the namespace, or name another one.",
        ),
        (
            refused(403, "Forbidden", 'pods "x" is forbidden: no PriorityClass with name p was found'),
            FailureReason.INVALID_SPEC,
            "Name a priority class",
        ),
        (
            refused(403, "Forbidden", 'pods "x" is forbidden: pod rejected: RuntimeClass "k" not found'),
            FailureReason.INVALID_SPEC,
            "Name a runtime class",
        ),
        (
            refused(403, "Forbidden", 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot'),
            FailureReason.POLICY,
            "security contexts",
        ),
        (
            refused(422, "Invalid", "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"),
            FailureReason.POLICY,
            "Mend what the message names",
        ),
        (recorded_refusal("refused-403-service-account"), FailureReason.INVALID_SPEC, "Create the service account"),
        (recorded_refusal("refused-403-terminating-namespace"), FailureReason.CLUSTER_ERROR, "is being deleted"),
        (recorded_refusal("refused-422-invalid"), FailureReason.INVALID_SPEC, "less than or equal to cpu limit"),
        (recorded_refusal("refused-400-unknown-field"), FailureReason.INVALID_SPEC, "unknown field"),
        (refused(413, "RequestEntityTooLarge", "limit is 3145728"), FailureReason.INVALID_SPEC, "1,900,000 bytes"),
        (refused(500, "", "etcdserver: request is too large"), FailureReason.INVALID_SPEC, "1,900,000 bytes"),
        (refused(403, "Forbidden", 'violates PodSecurity "baseline"'), FailureReason.POLICY, "admission refused"),
        (refused(403, "", WEBHOOK), FailureReason.POLICY, "guard.example.com"),
        (refused(400, "NotFound", WEBHOOK), FailureReason.POLICY, "guard.example.com"),
        (refused(401, "Unauthorized", "denied by a policy"), FailureReason.POLICY, "admission refused"),
    ],
)
def test_what_will_never_be_taken_ends_the_job(error: ClusterRefusedError, reason: FailureReason, says: str) -> None:
    found = refusal(error, "ns", sent_bytes=1_900_000)
    assert isinstance(found, Refused)
    assert found.reason is reason
    assert says in found.message


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (recorded_refusal("refused-403-quota"), "quota"),
        (recorded_refusal("refused-403-rbac"), "api_server"),
        (refused(403, "Forbidden", 'pods "x" is forbidden: status unknown for quota: q, resources: pods'), "quota"),
        (refused(403, "Forbidden", 'pods "x" is forbidden: not yet ready to handle request'), "api_server"),
    ],
)
def test_what_may_be_taken_later_waits(error: Any, wait: str) -> None:
    found = refusal(error, "ns", sent_bytes=1)
    assert isinstance(found, Later)
    assert found.wait == wait
