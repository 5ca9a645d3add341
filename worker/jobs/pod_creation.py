"""Make sure that the one pod of an attempt exists: create it, or adopt what an earlier try has created.

The answer to a create may be lost, and two workers may race: the pod has the same name for both, so the API server
decides, and whoever gets 409 looks whose pod it is.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from dispatcher import names
from dispatcher.errors import InvalidSpecError
from dispatcher.record import JobRecord, WaitReason
from dispatcher.status import FailureReason
from worker.cluster.client import ClusterRefusedError, ClusterUnavailableError
from worker.cluster.observation import Observation
from worker.cluster.pod_json import observe
from worker.context import Context
from worker.rules.causes import advised
from worker.rules.manifest import manifest, namespace_of
from worker.rules.policy import refusal as policy_refusal
from worker.rules.policy import violations
from worker.rules.spec_copy import spec_annotations


@dataclass(frozen=True, slots=True)
class Launched:
    """The pod exists.

    ``attempt``: whose pod it is; a later one than was asked for, where Redis has lost that it was made.
    ``was_adopted``: it existed before.
    """

    pod: Observation
    attempt: int
    was_adopted: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The pod will never exist: the job fails for this reason."""

    reason: FailureReason
    message: str


@dataclass(frozen=True, slots=True)
class Unserved:
    """The API server does not show this worker the namespace's pods: the job is left to other workers."""


@dataclass(frozen=True, slots=True)
class Later:
    """The pod cannot be created now. ``error`` may carry the API server's ``Retry-After``."""

    wait: WaitReason
    detail: str
    error: Exception | None = None


async def ensure_pod(
    ctx: Context, record: JobRecord, attempt: int, *, may_create: Callable[[], bool]
) -> Launched | Refused | Unserved | Later:
    """Create the pod of the attempt, or adopt it.

    ``may_create`` is asked right before the request: whether the job is surely still this worker's.
    """
    try:
        namespace = namespace_of(record.spec, ctx.default_namespace)
        pod = manifest(
            record.spec,
            attempt=attempt,
            namespace=namespace,
            installation=ctx.settings.installation,
            return_value_image=ctx.settings.return_value_image,
        )
        problems = violations(pod, ctx.policy.policy)
    except InvalidSpecError as error:
        return Refused(FailureReason.INVALID_SPEC, "; ".join(error.problems))
    except Exception as error:  # noqa: BLE001 text only: what it raises once it raises at each try
        text = f"no pod can be made of this spec ({type(error).__name__}: {error})"
        return Refused(FailureReason.INVALID_SPEC, f"{text}. Mend the shape of its Kubernetes objects.")
    if problems:
        return Refused(FailureReason.POLICY, policy_refusal(problems, ctx.policy.policy))
    watch = await ctx.watches.of(namespace)
    if watch.refusal:
        return Unserved()
    if not watch.is_synced:
        return Later(WaitReason.API_SERVER, f"the API server does not list the pods of namespace {namespace!r} yet")
    known = await _known(ctx, record, namespace, attempt)
    if known is not None:
        return await _adopt(ctx, record, attempt, known)
    if (refused := await _refused_beside_own_pod(ctx, namespace, pod)) is not None:
        return refused
    await ctx.lease.until_held()
    return await _create(ctx, record, attempt, pod, may_create)


async def _refused_beside_own_pod(ctx: Context, namespace: str, pod: dict[str, Any]) -> Refused | Later | None:
    """Refuse a job that would take the secrets of the worker's own pod."""
    try:
        policy = await ctx.policy.beside_own_pod(namespace)
    except (ClusterUnavailableError, ClusterRefusedError) as error:
        text = "the worker cannot read its own pod, and so does not know which secrets no job may have"
        return Later(WaitReason.API_SERVER, f"{text}: {error}", error)
    if policy is None or not (problems := violations(pod, policy)):
        return None
    return Refused(FailureReason.POLICY, policy_refusal(problems, policy))


async def _known(ctx: Context, record: JobRecord, namespace: str, attempt: int) -> Observation | None:
    """Return the attempt's pod, where the watch shows it already.

    A new record may mean that Redis was emptied and the job submitted again: then a later attempt's pod will do, or one
    of the same key.
    """
    last = attempt if record.attempt > 0 else record.spec.launch_retries + 1
    for number in range(last, attempt - 1, -1):
        name = names.pod_name(
            name=record.spec.name,
            installation=ctx.settings.installation,
            job_id=record.job_id,
            attempt=number,
        )
        if (pod := ctx.watches.pod(namespace, name)) is not None:
            return pod
    if record.spec.key is None or record.attempt > 0:
        return None
    for candidate in ctx.watches.with_key(namespace, names.key_hash(record.spec.key), record.digest):
        if not await ctx.store.exists(names.job(candidate.job_id)):
            return candidate
    return None


async def _create(
    ctx: Context, record: JobRecord, attempt: int, pod: dict[str, Any], may_create: Callable[[], bool]
) -> Launched | Refused | Later:
    namespace = pod["metadata"]["namespace"]
    try:
        created = await ctx.cluster.create_pod(namespace, pod, may_send=may_create)
        return Launched(observe(created), attempt, was_adopted=False)
    except ClusterUnavailableError as error:
        return Later(WaitReason.API_SERVER, f"the API server does not take the pod: {error}", error)
    except ClusterRefusedError as error:
        if error.reason == "AlreadyExists":
            return await _existing(ctx, record, attempt, namespace, pod["metadata"]["name"], error)
        return refusal(error, namespace, sent_bytes=len(json.dumps(pod)))


async def _existing(
    ctx: Context, record: JobRecord, attempt: int, namespace: str, name: str, error: ClusterRefusedError
) -> Launched | Refused | Later:
    try:
        found = await ctx.cluster.read_pod(namespace, name)
    except ClusterUnavailableError as unavailable:
        return Later(WaitReason.API_SERVER, f"the API server does not answer: {unavailable}", unavailable)
    if found is None:
        # It was deleted meanwhile.
        return Later(WaitReason.API_SERVER, f"the API server asks to try again: {error.message}", error)
    return await _adopt(ctx, record, attempt, observe(found))


async def _adopt(ctx: Context, record: JobRecord, attempt: int, pod: Observation) -> Launched | Refused | Later:
    is_same_spec = pod.installation == ctx.settings.installation and pod.digest == record.digest
    if is_same_spec and pod.job_id == record.job_id and pod.attempt >= attempt:
        return Launched(pod, pod.attempt, was_adopted=True)
    if is_same_spec and record.spec.key is not None and pod.key_hash == names.key_hash(record.spec.key):
        return await _take_over_key(ctx, record, attempt, pod)
    whose = f"installation {pod.installation!r}, job {pod.job_id!r}, attempt {pod.attempt}"
    text = f"pod {pod.name!r} in namespace {pod.namespace!r} exists and is not this attempt's ({whose})"
    return _refused(FailureReason.CLUSTER_ERROR, text)


async def _take_over_key(ctx: Context, record: JobRecord, attempt: int, pod: Observation) -> Launched | Later:
    """Make the pod of the same key this job's, so that nobody rebuilds the former job's record from it."""
    metadata = {
        "uid": pod.uid,
        "labels": {names.LABEL_JOB: record.job_id, names.LABEL_ATTEMPT: str(attempt)},
        "annotations": spec_annotations(record.spec),
    }
    try:
        if await ctx.cluster.patch_pod(pod.namespace, pod.name, metadata):
            return Launched(replace(pod, job_id=record.job_id, attempt=attempt), attempt, was_adopted=True)
    except (ClusterUnavailableError, ClusterRefusedError) as error:
        return Later(WaitReason.API_SERVER, f"pod {pod.name} of the same key cannot be taken over yet: {error}", error)
    return Later(WaitReason.API_SERVER, f"pod {pod.name} of the same key has gone")


#: What a pod may name and must be there for its admission.
_NOT_THERE: Final = re.compile(r"serviceaccount|PriorityClass|RuntimeClass", re.IGNORECASE)


def _refused(reason: FailureReason, said: str) -> Refused:
    return Refused(reason, advised(reason, said))


def refusal(error: ClusterRefusedError, namespace: str, *, sent_bytes: int) -> Refused | Later:
    """Return what the API server's refusal of a create means. ``sent_bytes``: how large the pod was, as JSON."""
    causes = [cause for cause in error.causes if cause not in error.message]
    said = f"{error.message} ({'; '.join(causes)})" if causes else error.message
    if error.is_too_large:
        text = f"the pod is too large for the cluster: {sent_bytes:,} bytes with all that the worker adds ({said})"
        return _refused(FailureReason.INVALID_SPEC, text)
    if error.is_from_webhook:
        return _refused(FailureReason.POLICY, f"the cluster's admission refused the pod: {said}")
    match error.reason:
        case "NotFound":
            return _refused(FailureReason.INVALID_SPEC, f"namespace {namespace!r} does not exist ({said})")
        case "Forbidden":
            return _forbidden(error, namespace, said)
        case "Unauthorized":  # a policy's word: refused credentials are no refusal of a pod
            return _refused(FailureReason.POLICY, f"the cluster's admission refused the pod: {said}")
        case _:
            is_policy = "ValidatingAdmissionPolicy" in said
            reason = FailureReason.POLICY if is_policy else FailureReason.INVALID_SPEC
            return _refused(reason, f"the API server refused the pod: {said}")


def _forbidden(error: ClusterRefusedError, namespace: str, said: str) -> Refused | Later:
    if error.is_quota_exceeded:
        return Later(WaitReason.QUOTA, f"waiting for quota in namespace {namespace}: {error.message}", error)
    if "is being terminated" in said:
        return _refused(FailureReason.CLUSTER_ERROR, f"namespace {namespace!r} is being deleted: {said}")
    if "cannot create resource" in said:
        text = "the worker's service account may not create pods: give it the Role of deploy/rbac.yaml"
        return Later(WaitReason.API_SERVER, f"{text} ({said})", error)
    if "not yet ready to handle request" in said:  # admission of an API server that has just started
        return Later(WaitReason.API_SERVER, f"the API server does not take the pod yet: {said}", error)
    if _NOT_THERE.search(said):
        return _refused(FailureReason.INVALID_SPEC, f"the API server refused the pod: {said}")
    return _refused(FailureReason.POLICY, f"the cluster's admission refused the pod: {said}")
