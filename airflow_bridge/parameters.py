"""Every parameter of KPO's constructor and what becomes of it: the one table behind warnings, tests and documentation.

A parameter is supported with KPO's meaning, or accepted and ignored with a warning that says why. A test compares this
table with the constructor of the provider that is installed, so that a newer provider's additions are noticed.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class IgnoredParameterWarning(UserWarning):
    """A parameter was given that has no meaning here. The task does what it did."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """``default``: KPO's; giving it is no reason to warn."""

    default: Any
    why: str


_NO_CREDENTIALS = (
    "tasks hold no cluster credentials; the queue (podrelay_queue, or the connection's) chooses the cluster"
)
_NOTHING_POLLED = "nothing is polled: every change is told as it happens"

IGNORED: dict[str, Ignored] = {
    "kubernetes_conn_id": Ignored("kubernetes_default", _NO_CREDENTIALS),
    "in_cluster": Ignored(None, _NO_CREDENTIALS),
    "cluster_context": Ignored(None, _NO_CREDENTIALS),
    "config_file": Ignored(None, _NO_CREDENTIALS),
    "random_name_suffix": Ignored(
        True, "the worker names the pod after `name` with a suffix that is made from the job's id, never at random"
    ),
    "xcom_sidecar_container_security_context": Ignored(
        None, "the return value's sidecar takes its security context from the base container's"
    ),
    "startup_check_interval_seconds": Ignored(5, _NOTHING_POLLED),
    "base_container_status_polling_interval": Ignored(1, _NOTHING_POLLED),
    "poll_interval": Ignored(2, _NOTHING_POLLED),
    "logging_interval": Ignored(None, "the log is live while the task is deferred"),
    "progress_callback": Ignored(None, "KPO itself does not call it any more: use `callbacks`"),
    "is_delete_operator_pod": Ignored(None, "KPO itself does not read it any more: use `on_finish_action`"),
}

#: Supported, with what is worth saying where the meaning needs a word. The empty text: exactly as in KPO.
SUPPORTED: dict[str, str] = {
    "namespace": "where neither task nor template says it: the connection's, then the worker's own",
    "image": "",
    "name": "the pod's name is made from it: `<name>-<hash>-<attempt>`",
    "cmds": "",
    "arguments": "",
    "ports": "objects or dicts",
    "volume_mounts": "objects or dicts",
    "volumes": "objects or dicts",
    "env_vars": "dict, objects or dicts",
    "env_from": "objects or dicts",
    "secrets": "the provider's `Secret`, or anything with its attributes; a volume's name is derived, not random",
    "labels": "",
    "reattach_on_restart": "as `durable`",
    "durable": "False: every try is a job of its own; True: a retry attaches to the job, also when it has succeeded",
    "startup_timeout_seconds": "counts from when the pod has a node",
    "schedule_timeout_seconds": "where it is not given, the pod waits for a node until `queue_timeout_s`",
    "get_logs": "False keeps the log out of Redis; the link *Pod log* leads to the site's own log store",
    "base_container_name": "",
    "init_container_logs": "",
    "container_logs": "",
    "image_pull_policy": "",
    "annotations": "",
    "container_resources": "object or dict",
    "affinity": "object or dict",
    "runtime_class_name": "",
    "node_selector": "",
    "image_pull_secrets": "objects, dicts or a comma-separated text",
    "service_account_name": "",
    "automount_service_account_token": "",
    "hostnetwork": "the cluster's policy decides",
    "host_aliases": "objects or dicts",
    "tolerations": "objects or dicts",
    "security_context": "object or dict",
    "container_security_context": "object or dict",
    "dnspolicy": "",
    "dns_config": "object or dict",
    "hostname": "",
    "subdomain": "",
    "schedulername": "",
    "full_pod_spec": "object or dict",
    "init_containers": "objects or dicts",
    "log_events_on_failure": "the failure's message has the last three warnings in any case",
    "log_events_on_startup": "False: what a starting pod waits for is not logged",
    "do_xcom_push": "up to 1 MiB, without exec rights: the value passes through the sidecar's log",
    "pod_template_file": "unknown fields are refused by the API server instead of being dropped",
    "pod_template_dict": "as `pod_template_file`",
    "priority_class_name": "",
    "pod_runtime_info_envs": "objects or dicts",
    "termination_grace_period": "",
    "configmaps": "",
    "skip_on_exit_code": "never for a pod that was stopped from outside",
    "deferrable": "",
    "log_pod_spec_on_failure": "logged as what was asked for, not inside the exception",
    "on_finish_action": "",
    "on_kill_action": "an execution timeout always cancels",
    "termination_message_policy": "",
    "active_deadline_seconds": "",
    "callbacks": "with our own objects for client and pod; see the table of hooks",
    "trigger_kwargs": "",
    "container_name_log_prefix_enabled": "",
    "log_formatter": "while deferred: only a function that the triggerer can import",
}

#: Ours alone.
ADDED: dict[str, str] = {
    "podrelay_conn_id": "the connection of type podrelay; default `podrelay_default`",
    "podrelay_queue": "the queue, which chooses the cluster; default: the connection's (`queue` stays Airflow's)",
    "podrelay_options": "any other field of the job spec, e.g. `{'queue_timeout_s': 600, 'retry_on': ['evicted']}`",
}


def warn_of_ignored(given: Mapping[str, Any], *, stacklevel: int) -> None:
    """Warn once for each parameter that was given and has no meaning here."""
    for name, ignored in IGNORED.items():
        if given[name] != ignored.default:
            warnings.warn(
                f"PodRelayOperator ignores {name}: {ignored.why}", IgnoredParameterWarning, stacklevel=stacklevel + 1
            )
