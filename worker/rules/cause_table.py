"""The table of causes: what a failure was caused by, who can mend it, and how.

A reason (:class:`dispatcher.status.FailureReason`) says at which step a job failed. What helps depends on the cause:
an image that is not there and a registry that wants credentials are both ``image_pull``. Kubernetes and the runtimes
tell causes in prose only, so a cause is known by what was said. :mod:`worker.rules.causes` reads the table.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from dispatcher.status import Blame, FailureReason


@dataclass(frozen=True, slots=True)
class FailureCause:
    """One cause of a failure.

    Attributes:
        reason: the failure's.
        said: a regular expression that is found in what was said, whatever its case; empty: all that is left.
        responsible: who can mend it.
        advice: what to do, as a sentence; empty where what was said ends with it.
    """

    reason: FailureReason
    said: str
    responsible: Blame
    advice: str
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", re.compile(self.said, re.IGNORECASE))


_R, _CODE, _SPEC, _IMAGE = FailureReason, Blame.USER_CODE, Blame.SPEC, Blame.IMAGE
_CLUSTER, _POLICY, _LIMIT = Blame.CLUSTER, Blame.POLICY, Blame.TIME_LIMIT

_COMMAND: Final = "The image has no such command: check command and args, or use another image."
_NOT_EXECUTABLE: Final = (
    "The command is not executable for the container's user: check its mode, or start it by an interpreter."
)
_MEMORY: Final = "Raise resources.limits.memory, or use less."
_SECRET: Final = "Create the secret in the pod's namespace, or mend its name."
_CONFIG_MAP: Final = "Create the config map in the pod's namespace, or mend its name."
_KEY: Final = "The secret or config map has no such key: add it, or mend the key's name."
_ROOM: Final = "Ask for less, mend node_selector, affinity and tolerations, add nodes, or raise the limit."
_GATE: Final = "Find out why whoever set the gate does not lift it (a quota in a queue of Kueue?), or raise the limit."
_AGAIN: Final = "Submit the job again; if it comes back, ask those who run the cluster."
_NODES_VOLUME: Final = "Find out why the volume cannot be attached or mounted: other pods, zones, its driver."

#: The first of a reason that is found counts; the last of each reason takes all that is left.
CAUSES: Final = (
    # The code, or what the image has as its command
    FailureCause(_R.EXIT_CODE, r"code 127\b", _CODE, "A shell's word for a command that is not there: see its log."),
    FailureCause(
        _R.EXIT_CODE, r"code 126\b", _CODE, "A shell's word for a command that is not executable: see its log."
    ),
    FailureCause(
        _R.EXIT_CODE,
        r"SIGKILL",
        _CODE,
        "It was killed from outside: by a probe, by its node for want of memory, or by the code itself. See its log.",
    ),
    FailureCause(_R.EXIT_CODE, r"SIG(SEGV|BUS|ILL|FPE|ABRT)", _CODE, "Native code crashed: see its log."),
    FailureCause(_R.EXIT_CODE, "", _CODE, "See its log."),
    FailureCause(_R.OOM_KILLED, "", _CODE, _MEMORY),
    FailureCause(_R.INIT_FAILED, r"more memory than", _SPEC, _MEMORY),
    FailureCause(_R.INIT_FAILED, r"executable file not found|no such file", _IMAGE, _COMMAND),
    FailureCause(_R.INIT_FAILED, r"could not be started", _IMAGE, "Check its command, mounts and security context."),
    FailureCause(_R.INIT_FAILED, "", _CODE, "See its log."),
    FailureCause(_R.CONTAINER_FAILED, r"more memory than", _SPEC, _MEMORY),
    FailureCause(
        _R.CONTAINER_FAILED, r"could not be started.*(executable file not found|no such file)", _IMAGE, _COMMAND
    ),
    FailureCause(
        _R.CONTAINER_FAILED, r"could not be started", _IMAGE, "Check its command, mounts and security context."
    ),
    FailureCause(_R.CONTAINER_FAILED, r"but (the node lost|the pod failed)", _CLUSTER, _AGAIN),
    FailureCause(_R.CONTAINER_FAILED, "", _CODE, "See its log."),
    # The return value
    FailureCause(
        _R.RETURN_VALUE,
        r"\b(NaN|-?Infinity)\b",
        _CODE,
        "JSON has no NaN and no Infinity: write null or a text instead (in Python, allow_nan=False shows where).",
    ),
    FailureCause(_R.RETURN_VALUE, r"too large", _CODE, "Store the data elsewhere and return its place."),
    FailureCause(_R.RETURN_VALUE, r"may not read", _CODE, "Make the file readable for all (chmod a+r)."),
    FailureCause(_R.RETURN_VALUE, r"file changed", _CODE, "Write the file once, and run the job again."),
    FailureCause(_R.RETURN_VALUE, r"did not arrive", _CLUSTER, "Run the job again."),
    FailureCause(_R.RETURN_VALUE, "", _CODE, "Write JSON (UTF-8, finite numbers) to /airflow/xcom/return.json."),
    # To start a process
    FailureCause(
        _R.START_ERROR,
        r"argument list too long",
        _SPEC,
        "Command, arguments and variables are too long together: hand data over as a file (config map, volume).",
    ),
    FailureCause(
        _R.START_ERROR,
        r"exec format error",
        _IMAGE,
        "The image is for another CPU than the node's, or its script has no #! line.",
    ),
    FailureCause(
        _R.START_ERROR,
        r"error mounting|to rootfs|subpath|failed to create .* mount",
        _SPEC,
        "Check volume_mounts: paths and sub-paths, and that a file is not mounted over a directory.",
    ),
    FailureCause(
        _R.START_ERROR, r"chdir|\bcwd\b|working directory", _SPEC, "There is no such directory: mend working_dir."
    ),
    FailureCause(
        _R.START_ERROR,
        r"unable to find user|no users found|unable to find group|no matching entries in (passwd|group)",
        _SPEC,
        "The image has no such user: give run_as_user as a number.",
    ),
    FailureCause(_R.START_ERROR, r"no command specified", _IMAGE, "The image has no command of its own: give one."),
    FailureCause(_R.START_ERROR, r"permission denied|operation not permitted", _IMAGE, _NOT_EXECUTABLE),
    FailureCause(_R.START_ERROR, r"not found|no such file", _IMAGE, _COMMAND),
    FailureCause(_R.START_ERROR, "", _IMAGE, "Check command, working_dir, mounts and the security context."),
    # To pull an image
    FailureCause(_R.IMAGE_PULL, r"InvalidImageName", _SPEC, "Mend the image's name."),
    FailureCause(
        _R.IMAGE_PULL,
        r"ErrImageNeverPull",
        _SPEC,
        "Put the image on the node, or use another image_pull_policy.",
    ),
    FailureCause(
        _R.IMAGE_PULL,
        r"image pull secrets",
        _SPEC,
        "Create the pull secret in the pod's namespace, or mend image_pull_secrets.",
    ),
    FailureCause(
        _R.IMAGE_PULL,
        r"too ?many ?requests|rate limit|\b429\b",
        _CLUSTER,
        "The registry limits pulls: try later, pull with credentials (image_pull_secrets), or from a mirror.",
    ),
    FailureCause(
        _R.IMAGE_PULL,
        r"x509|certificate|HTTP response to HTTPS",
        _CLUSTER,
        "Nodes do not trust how the registry shows itself: have those who run the cluster mend that.",
    ),
    FailureCause(
        _R.IMAGE_PULL,
        r"no such host|dial tcp|connection refused|connection reset|unreachable|time-?out|timed out|deadline exceeded|"
        r"\bEOF\b|server misbehaving|RegistryUnavailable",
        _CLUSTER,
        "Nodes do not reach the registry: check its name in the image, and that nodes may connect to it.",
    ),
    FailureCause(
        _R.IMAGE_PULL,
        r"may require (authorization|.docker login)",
        _IMAGE,
        "There is no such image, or it is private: check its name, and image_pull_secrets.",
    ),
    FailureCause(
        _R.IMAGE_PULL,
        r"unauthorized|authorization failed|authentication|credentials|denied|forbidden|\b40[13]\b",
        _SPEC,
        "The registry does not let the pod have it: check image_pull_secrets, and what their user may pull.",
    ),
    FailureCause(
        _R.IMAGE_PULL,
        r"no match for platform|no matching manifest",
        _IMAGE,
        "The image is not made for the node's CPU: build it for that, or choose other nodes (node_selector).",
    ),
    FailureCause(_R.IMAGE_PULL, r"no space left", _CLUSTER, "The node's disk is full: ask those who run the cluster."),
    FailureCause(
        _R.IMAGE_PULL, r"Signature", _POLICY, "The cluster takes only signed images: sign it, or use another."
    ),
    FailureCause(
        _R.IMAGE_PULL,
        r"not found|manifest unknown|does not exist",
        _IMAGE,
        "There is no such image: check its name and tag.",
    ),
    FailureCause(
        _R.IMAGE_PULL,
        "",
        _IMAGE,
        "Check the image's name and tag, image_pull_secrets, and that nodes reach the registry.",
    ),
    # To configure a container
    FailureCause(_R.CONFIG_ERROR, r"couldn't find key|non-existent .*key", _SPEC, _KEY),
    FailureCause(_R.CONFIG_ERROR, r"secret .*not found", _SPEC, _SECRET),
    FailureCause(_R.CONFIG_ERROR, r"configmap .*not found", _SPEC, _CONFIG_MAP),
    FailureCause(
        _R.CONFIG_ERROR,
        r"run ?as ?(non)?root|non-numeric user",
        _SPEC,
        "Give run_as_user as a number other than 0, or use an image whose USER is one.",
    ),
    FailureCause(_R.CONFIG_ERROR, "", _SPEC, "Create what is missing or mend the spec."),
    # To find a node, and to start on it
    FailureCause(
        _R.UNSCHEDULABLE,
        r"persistentvolumeclaim .*(not found|does ?n.t exist)",
        _SPEC,
        "Create the claim in the pod's namespace, or mend its name.",
    ),
    FailureCause(_R.UNSCHEDULABLE, r"unbound .*PersistentVolumeClaim|volume node affinity", _CLUSTER, _NODES_VOLUME),
    FailureCause(_R.UNSCHEDULABLE, r"SchedulingGated|scheduling gate|\bgated?\b", _CLUSTER, _GATE),
    FailureCause(_R.UNSCHEDULABLE, "", _CLUSTER, _ROOM),
    FailureCause(_R.START_TIMEOUT, r"couldn't find key|non-existent .*key", _SPEC, _KEY),
    FailureCause(_R.START_TIMEOUT, r"secret .*not found", _SPEC, _SECRET),
    FailureCause(_R.START_TIMEOUT, r"configmap .*not found", _SPEC, _CONFIG_MAP),
    FailureCause(_R.START_TIMEOUT, r"attach|mount|volume .*(fail|unable)", _CLUSTER, _NODES_VOLUME),
    FailureCause(
        _R.START_TIMEOUT,
        r"sandbox|\bCNI\b|network (plugin|is not ready)",
        _CLUSTER,
        "The node cannot make the pod's network: have those who run the cluster mend that.",
    ),
    FailureCause(
        _R.START_TIMEOUT, r": init container", _CODE, "Find out what it waits for, or raise startup_timeout_s."
    ),
    FailureCause(_R.START_TIMEOUT, r": sidecar", _CODE, "Find out why it does not start, or raise startup_timeout_s."),
    FailureCause(
        _R.START_TIMEOUT,
        r"creating containers",
        _LIMIT,
        "Raise startup_timeout_s; a large image takes its time where a node does not have it yet.",
    ),
    FailureCause(
        _R.START_TIMEOUT, "", _LIMIT, "Find out what it waited for (volumes, network), or raise startup_timeout_s."
    ),
    # Limits
    FailureCause(_R.RUN_TIMEOUT, r"DeadlineExceeded", _LIMIT, "Raise active_deadline_s or make the job shorter."),
    FailureCause(_R.RUN_TIMEOUT, "", _LIMIT, "Raise run_timeout_s or make the job shorter."),
    FailureCause(_R.QUEUE_TIMEOUT, r"SchedulingGated|scheduling gate|\bgated?\b", _CLUSTER, _GATE),
    FailureCause(_R.QUEUE_TIMEOUT, r"no node took the pod", _CLUSTER, _ROOM),
    FailureCause(_R.QUEUE_TIMEOUT, "", _CLUSTER, ""),
    FailureCause(_R.QUOTA_TIMEOUT, "", _CLUSTER, ""),
    # The cluster ended it
    FailureCause(
        _R.EVICTED,
        r"ephemeral|disk|storage",
        _SPEC,
        "It, or the node, used up the node's disk: write to a volume, or ask for ephemeral-storage. Submit it again.",
    ),
    FailureCause(
        _R.EVICTED,
        r"low on resource: memory|memory was low",
        _SPEC,
        "The node had no memory left: ask for what the job uses (resources.requests.memory). Submit it again.",
    ),
    FailureCause(
        _R.EVICTED, r"Eviction|TaintManager", _CLUSTER, "Its node was emptied (an update, a drain): submit it again."
    ),
    FailureCause(
        _R.EVICTED, "", _CLUSTER, "Submit it again; if it happens often, ask for what it uses (resources.requests)."
    ),
    FailureCause(
        _R.PREEMPTED,
        "",
        _CLUSTER,
        "Others of higher priority took its place: submit it again, or raise its priority.",
    ),
    FailureCause(_R.NODE_LOST, r"lost container", _CLUSTER, "Submit the job again."),
    FailureCause(_R.NODE_LOST, "", _CLUSTER, "Its node stopped answering: submit it again."),
    FailureCause(
        _R.POD_DELETED,
        "",
        _CLUSTER,
        "Find out who deletes pods there (kubectl, a drain, a cleaner), then submit the job again.",
    ),
    # Who may have such a pod
    FailureCause(_R.POLICY, r"the worker's policy", _POLICY, ""),
    FailureCause(
        _R.POLICY,
        r"violates PodSecurity",
        _SPEC,
        "Set in the security contexts what the message names, or use a namespace whose level allows the pod.",
    ),
    FailureCause(
        _R.POLICY,
        r"failed quota|must specify",
        _SPEC,
        "Give the requests and limits that the namespace's quota names.",
    ),
    FailureCause(
        _R.POLICY,
        r"(maximum|minimum) \S+ usage per|limit to request ratio",
        _SPEC,
        "Ask for what the namespace's LimitRange allows.",
    ),
    FailureCause(
        _R.POLICY,
        r"may run more than once",
        _POLICY,
        "Where the spec does not ask for it, admission has added it: have podrelay's pods exempted from that.",
    ),
    FailureCause(
        _R.POLICY,
        "",
        _POLICY,
        "Mend what the message names, or ask those who run the cluster which pods its admission allows.",
    ),
    # What is asked for cannot be
    FailureCause(_R.INVALID_SPEC, r"PriorityClass", _SPEC, "Name a priority class that the cluster has, or create it."),
    FailureCause(_R.INVALID_SPEC, r"RuntimeClass", _SPEC, "Name a runtime class that the cluster has, or create it."),
    FailureCause(_R.INVALID_SPEC, r"service ?account", _SPEC, "Create the service account, or name another one."),
    FailureCause(_R.INVALID_SPEC, r"namespace .*does not exist", _SPEC, "Create the namespace, or name another one."),
    FailureCause(
        _R.INVALID_SPEC,
        r"too large",
        _SPEC,
        "Make it smaller: hand large data over as a file (a config map, a volume), not in arguments or variables.",
    ),
    FailureCause(_R.INVALID_SPEC, r"this worker cannot read the spec", _SPEC, "Mend it, or upgrade the workers."),
    FailureCause(_R.INVALID_SPEC, "", _SPEC, "Mend the spec: the message says where."),
    # The rest
    FailureCause(_R.CLUSTER_ERROR, r"started again", _CLUSTER, "Have whoever runs the cluster find out why."),
    FailureCause(_R.CLUSTER_ERROR, r"is not this attempt's", _CLUSTER, "Find out who made it and delete it."),
    FailureCause(_R.CLUSTER_ERROR, r"refused the pod", _CLUSTER, "It may be accepted elsewhere: submit it again."),
    FailureCause(
        _R.CLUSTER_ERROR, r"is being deleted", _CLUSTER, "Use another namespace, or wait until it is made anew."
    ),
    FailureCause(_R.CLUSTER_ERROR, "", _CLUSTER, _AGAIN),
    FailureCause(_R.GAVE_UP, "", _CLUSTER, _AGAIN),
)
