"""What each failure is told to do, for what Kubernetes, runtimes and registries say of its cause."""

import pytest

from dispatcher.events import ClusterEvent
from dispatcher.status import Blame, FailureReason
from worker.rules.cause_table import CAUSES, FailureCause
from worker.rules.causes import advised, cause_of, explained

CODE, SPEC, IMAGE = Blame.USER_CODE, Blame.SPEC, Blame.IMAGE
CLUSTER, POLICY, LIMIT = Blame.CLUSTER, Blame.POLICY, Blame.TIME_LIMIT

PULL = "image of container 'base': ErrImagePull: failed to pull and unpack image \"example.com/a:b\": "
START = "container 'base' could not be started: "
CONFIG = "container 'base' cannot be configured: "
LATE = "the base container did not start within startup_timeout_s (600 s, counted from its node): "
REFUSED = 'the cluster\'s admission refused the pod: pods "a" is forbidden: '

#: reason, what was said, who, and a part of what to do.
SAID = [
    ("exit_code", "container 'base' exited with code 3", CODE, "See its log"),
    ("exit_code", "container 'base' exited with code 127", CODE, "a command that is not there"),
    ("exit_code", "container 'base' exited with code 126", CODE, "not executable"),
    ("exit_code", "container 'base' exited with code 137 (SIGKILL)", CODE, "killed from outside"),
    ("exit_code", "container 'base' exited with code 139 (SIGSEGV)", CODE, "Native code crashed"),
    ("oom_killed", "container 'base' used more memory than its limit and was killed", CODE, "resources.limits.memory"),
    ("init_failed", "init container failed, …: container 'a' exited with code 1", CODE, "See its log"),
    ("init_failed", "…: container 'a' used more memory than its limit and was killed", SPEC, "resources.limits.memory"),
    (
        "init_failed",
        "container 'a' could not be started: exec: \"x\": executable file not found",
        IMAGE,
        "command and args",
    ),
    ("init_failed", "container 'a' could not be started: oops", IMAGE, "Check its command"),
    ("container_failed", "the base container succeeded, but container 'b' exited with code 9", CODE, "See its log"),
    ("container_failed", "…, but container 'b' used more memory than its limit", SPEC, "resources.limits.memory"),
    ("container_failed", "…, but container 'b' could not be started: \"x\": executable file not found", IMAGE, "args"),
    ("container_failed", "…, but container 'b' could not be started: oops", IMAGE, "Check its command"),
    ("container_failed", "…, but the node lost container 'b' (was it rebooted?): …", CLUSTER, "again"),
    ("return_value", "the return value is not JSON that can be read: NaN is no number that JSON has", CODE, "no NaN"),
    ("return_value", "the return value is not JSON that can be read: Infinity is …", CODE, "write null"),
    ("return_value", "the return value is not JSON that can be read: Expecting value: line 1", CODE, "Write JSON"),
    ("return_value", "the return value is too large: 2000000 bytes, at most 1048576", CODE, "Store the data elsewhere"),
    ("return_value", "… did not arrive whole: the sidecar may not read /airflow/xcom/return.json", CODE, "chmod a+r"),
    (
        "return_value",
        "… did not arrive whole: its checksum is wrong: …, or the file changed while",
        CODE,
        "Write the file once",
    ),
    ("return_value", "the return value did not arrive whole: only 3 of 5 bytes arrived", CLUSTER, "Run the job again"),
    ("start_error", START + 'exec: "python": executable file not found in $PATH', IMAGE, "no such command"),
    ("start_error", START + "exec: /run.sh: no such file or directory", IMAGE, "no such command"),
    ("start_error", START + "exec: /run.sh: permission denied", IMAGE, "not executable"),
    ("start_error", START + "exec /run.sh: exec format error", IMAGE, "another CPU"),
    ("start_error", START + "exec /bin/sh: argument list too long", SPEC, "config map, volume"),
    (
        "start_error",
        START + 'chdir to cwd ("/no") set in config.json failed: no such file or directory',
        SPEC,
        "working_dir",
    ),
    ("start_error", START + 'error mounting "/a" to rootfs at "/b": not a directory: unknown', SPEC, "volume_mounts"),
    ("start_error", START + 'failed to prepare subPath for volumeMount "v" of container "base"', SPEC, "sub-paths"),
    ("start_error", START + "unable to find user nobody2: no matching entries in passwd file", SPEC, "run_as_user"),
    ("start_error", START + "no command specified", IMAGE, "give one"),
    ("start_error", START + "something new", IMAGE, "security context"),
    ("image_pull", "image of container 'base': InvalidImageName: couldn't parse image", SPEC, "Mend the image's name"),
    (
        "image_pull",
        "image of container 'base': ErrImageNeverPull: not present with pull policy",
        SPEC,
        "image_pull_policy",
    ),
    ("image_pull", PULL + "docker.io/library/a:b: not found", IMAGE, "no such image"),
    ("image_pull", PULL + "manifest unknown", IMAGE, "no such image"),
    ("image_pull", PULL + "no match for platform in manifest: not found", IMAGE, "node's CPU"),
    (
        "image_pull",
        PULL + "pull access denied, repository does not exist or may require authorization",
        IMAGE,
        "private",
    ),
    ("image_pull", PULL + "unexpected status from HEAD request: 401 Unauthorized", SPEC, "image_pull_secrets"),
    ("image_pull", PULL + "failed to fetch anonymous token: 403 Forbidden", SPEC, "image_pull_secrets"),
    ("image_pull", PULL + "no basic auth credentials", SPEC, "image_pull_secrets"),
    ("image_pull", PULL + "toomanyrequests: You have reached your pull rate limit", CLUSTER, "limits pulls"),
    ("image_pull", PULL + "429 Too Many Requests", CLUSTER, "limits pulls"),
    ("image_pull", PULL + "dial tcp: lookup example.com: no such host", CLUSTER, "do not reach the registry"),
    ("image_pull", PULL + "dial tcp 10.0.0.1:443: i/o timeout", CLUSTER, "do not reach the registry"),
    ("image_pull", PULL + "dial tcp 10.0.0.1:443: connect: connection refused", CLUSTER, "do not reach"),
    ("image_pull", PULL + "tls: failed to verify certificate: x509: signed by unknown authority", CLUSTER, "trust"),
    ("image_pull", PULL + "http: server gave HTTP response to HTTPS client", CLUSTER, "trust"),
    ("image_pull", PULL + "write /var/lib/x: no space left on device", CLUSTER, "disk is full"),
    ("image_pull", "image of container 'base': SignatureValidationFailed: x", POLICY, "signed"),
    ("image_pull", PULL + "Unable to retrieve some image pull secrets (regcred)", SPEC, "Create the pull secret"),
    ("image_pull", "image of container 'base': ErrImagePull", IMAGE, "Check the image's name and tag"),
    ("config_error", CONFIG + 'secret "db" not found', SPEC, "Create the secret"),
    ("config_error", CONFIG + 'configmap "cfg" not found', SPEC, "Create the config map"),
    ("config_error", CONFIG + "couldn't find key pass in Secret default/db", SPEC, "no such key"),
    ("config_error", CONFIG + "container has runAsNonRoot and image will run as root", SPEC, "run_as_user"),
    ("config_error", CONFIG + "container has runAsNonRoot and image has non-numeric user (app)", SPEC, "run_as_user"),
    ("config_error", CONFIG + "something new", SPEC, "Create what is missing"),
    ("unschedulable", "…: 0/3 nodes are available: 3 Insufficient cpu", CLUSTER, "Ask for less"),
    ("unschedulable", '…: persistentvolumeclaim "data" not found', SPEC, "Create the claim"),
    ("unschedulable", "…: pod has unbound immediate PersistentVolumeClaims", CLUSTER, "volume"),
    ("unschedulable", "…: Scheduling is blocked due to non-empty scheduling gates (SchedulingGated)", CLUSTER, "gate"),
    (
        "start_timeout",
        LATE + 'MountVolume.SetUp failed for volume "v" : secret "no" not found',
        SPEC,
        "Create the secret",
    ),
    ("start_timeout", LATE + 'MountVolume.SetUp failed for volume "v" : configmap "no" not found', SPEC, "config map"),
    ("start_timeout", LATE + "MountVolume.SetUp failed …: references non-existent secret key: x", SPEC, "no such key"),
    ("start_timeout", LATE + 'Multi-Attach error for volume "pvc-1" Volume is already used', CLUSTER, "volume"),
    ("start_timeout", LATE + "Failed to create pod sandbox: plugin type=cni failed", CLUSTER, "network"),
    ("start_timeout", LATE + "init container 1 of 2 (wait)", CODE, "what it waits for"),
    ("start_timeout", LATE + "sidecar proxy", CODE, "why it does not start"),
    ("start_timeout", LATE + "creating containers", LIMIT, "a large image"),
    ("start_timeout", LATE + "preparing volumes and network", LIMIT, "what it waited for"),
    (
        "run_timeout",
        "the cluster ended the pod: DeadlineExceeded: Pod was active on the node longer",
        LIMIT,
        "active_deadline_s",
    ),
    ("run_timeout", "the base container ran longer than run_timeout_s (5 s)", LIMIT, "run_timeout_s"),
    ("queue_timeout", "no pod was created within the queue timeout", CLUSTER, ""),
    ("queue_timeout", "no node took the pod within queue_timeout_s (9 s): 3 Insufficient cpu", CLUSTER, "Ask for less"),
    ("queue_timeout", "no node took the pod within queue_timeout_s (9 s): scheduling gates", CLUSTER, "gate"),
    ("quota_timeout", "the namespace's resource quota left no room", CLUSTER, ""),
    (
        "evicted",
        "…: Evicted: Pod ephemeral local storage usage exceeds the total limit of containers 1Mi",
        SPEC,
        "disk",
    ),
    ("evicted", "…: Evicted: The node was low on resource: memory. Threshold quantity: 100Mi", SPEC, "requests.memory"),
    ("evicted", "the cluster ended the pod: EvictionByEvictionAPI: Eviction API: evicting", CLUSTER, "emptied"),
    ("evicted", "the cluster ended the pod: Terminated: Pod was terminated in response to shutdown", CLUSTER, "again"),
    ("preempted", "the cluster ended the pod: PreemptionByScheduler: preempting", CLUSTER, "higher priority"),
    ("node_lost", "node 'a' does not answer, or is gone: …. It may still run there", CLUSTER, "submit it again"),
    ("node_lost", "the node lost container 'base' (was it rebooted?): x", CLUSTER, "Submit the job again"),
    ("pod_deleted", "the pod was deleted in namespace 'n', and not by podrelay", CLUSTER, "who deletes pods"),
    ("policy", "the worker's policy does not allow this pod: spec.hostNetwork: …; remove it", POLICY, ""),
    (
        "policy",
        REFUSED + 'violates PodSecurity "restricted:latest": allowPrivilegeEscalation',
        SPEC,
        "security contexts",
    ),
    ("policy", REFUSED + "failed quota: q: must specify limits.cpu for: base", SPEC, "requests and limits"),
    ("policy", REFUSED + "maximum cpu usage per Container is 1, but limit is 2", SPEC, "LimitRange"),
    ("policy", 'admission webhook "p.example.com" denied the request: no', POLICY, "Mend what the message names"),
    ("policy", "the pod may run more than once: restartPolicy Always; …", POLICY, "exempted"),
    ("invalid_spec", REFUSED + "no PriorityClass with name high was found", SPEC, "priority class"),
    ("invalid_spec", REFUSED + 'pod rejected: RuntimeClass "kata" not found', SPEC, "runtime class"),
    (
        "invalid_spec",
        REFUSED + 'error looking up service account n/a: serviceaccount "a" not found',
        SPEC,
        "service account",
    ),
    ("invalid_spec", "namespace 'n' does not exist (x)", SPEC, "Create the namespace"),
    ("invalid_spec", "the pod is too large for the cluster: 2,000,000 bytes", SPEC, "smaller"),
    ("invalid_spec", "this worker cannot read the spec: x", SPEC, "upgrade the workers"),
    ("invalid_spec", "the API server refused the pod: spec.containers[0].image: Required value", SPEC, "Mend the spec"),
    ("cluster_error", "container 'base' was started again by the cluster; …", CLUSTER, "find out why"),
    ("cluster_error", "pod 'a' in namespace 'n' exists and is not this attempt's (x)", CLUSTER, "who made it"),
    ("cluster_error", "node 'a' refused the pod: OutOfcpu: x", CLUSTER, "elsewhere"),
    ("cluster_error", "namespace 'n' is being deleted: x", CLUSTER, "another namespace"),
    ("cluster_error", "this worker failed at following its pod", CLUSTER, "Submit the job again"),
    ("gave_up", "given up", CLUSTER, "Submit the job again"),
]


def told(row: tuple[str, str, Blame, str]) -> FailureCause:
    return cause_of(FailureReason(row[0]), row[1])


@pytest.mark.parametrize(("reason", "said", "responsible", "advice"), SAID)
def test_a_cause_is_told_by_who_can_mend_it_and_how(reason: str, said: str, responsible: Blame, advice: str) -> None:
    found = cause_of(FailureReason(reason), said)
    assert found.responsible is responsible
    assert advice in found.advice
    assert bool(advice) == bool(found.advice)


def test_every_cause_is_shown_here() -> None:
    assert [cause for cause in CAUSES if cause not in {told(row) for row in SAID}] == []


@pytest.mark.parametrize("reason", FailureReason)
def test_every_reason_has_an_answer_for_whatever_was_said(reason: FailureReason) -> None:
    last = [cause for cause in CAUSES if cause.reason is reason][-1]
    assert last.said == ""
    assert cause_of(reason, "") is last


@pytest.mark.parametrize(("reason", "said"), [row[:2] for row in SAID])
def test_a_cause_is_the_same_with_its_advice(reason: str, said: str) -> None:
    """Who is responsible is found at the end, from the message that an intent had."""
    message = advised(FailureReason(reason), said)
    assert cause_of(FailureReason(reason), message) is cause_of(FailureReason(reason), said)


def event(reason: str, message: str) -> ClusterEvent:
    return ClusterEvent(reason=reason, message=message)


def test_a_volume_that_cannot_be_mounted_is_told_by_the_clusters_warning() -> None:
    late = advised(FailureReason.START_TIMEOUT, LATE + "preparing volumes and network")
    mount = event("FailedMount", 'MountVolume.SetUp failed for volume "v" : secret "no" not found')
    message = explained(FailureReason.START_TIMEOUT, late, [mount, event("MissingClusterDNS", "no DNS")])
    assert message == (
        LATE + 'preparing volumes and network: MountVolume.SetUp failed for volume "v" : secret "no" not found. '
        "Create the secret in the pod's namespace, or mend its name."
    )
    assert cause_of(FailureReason.START_TIMEOUT, message).responsible is SPEC
    assert explained(FailureReason.START_TIMEOUT, message, [mount]) == message


def test_a_pull_secret_that_is_missing_is_told_by_the_clusters_warning() -> None:
    failed = advised(FailureReason.IMAGE_PULL, PULL + "401 Unauthorized")
    secret = event(
        "FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (regcred); attempting"
    )
    message = explained(FailureReason.IMAGE_PULL, failed, [secret])
    assert "401 Unauthorized: Unable to retrieve some image pull secrets (regcred)" in message
    assert message.endswith("Create the pull secret in the pod's namespace, or mend image_pull_secrets.")


def test_what_an_older_kubelet_leaves_out_of_a_back_off_is_told_by_its_warning() -> None:
    bare = advised(
        FailureReason.IMAGE_PULL, "image of container 'base': ImagePullBackOff: Back-off pulling image \"a:b\""
    )
    failed = event("Failed", 'Failed to pull image "a:b": docker.io/library/a:b: not found')
    assert explained(FailureReason.IMAGE_PULL, bare, [failed]).endswith(
        "There is no such image: check its name and tag."
    )
    whole = advised(FailureReason.IMAGE_PULL, PULL + "not found")
    assert explained(FailureReason.IMAGE_PULL, whole, [failed]) == whole


@pytest.mark.parametrize("reason", sorted(set(FailureReason) - {FailureReason.IMAGE_PULL, FailureReason.START_TIMEOUT}))
def test_other_failures_are_not_explained_by_warnings_of_the_start(reason: FailureReason) -> None:
    message = advised(reason, "what happened")
    assert explained(reason, message, [event("FailedMount", "a volume"), event("Failed", "an image")]) == message
