"""The table of KPO's parameters and of what becomes of each.

A new parameter of KPO is added to the operator's signature, which Airflow reads, and as a row here. The row makes the
operator's attribute, the field of pod or job, the warning, and the line in ``docs/migrating-from-kpo.md``. A test
compares the table with the installed provider's constructor.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_bridge.argument_values import (
    api_object,
    api_objects,
    config_maps,
    env_variables,
    flag,
    pull_secrets,
    text,
    texts,
    texts_by_name,
    unchanged,
    whole_number,
)
from airflow_bridge.kubernetes_object import objects_of

#: An operator's arguments after rendering, by KPO's names: see :func:`arguments_of`.
Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PodField:
    """Supported, as a field of the pod.

    Attributes:
        path: where the API has the field, e.g. ``spec.hostNetwork``; ``container.…`` is the base container. Parameters
            of the same field are lists, which are joined in the table's order.
        note: for the migration page, where the meaning needs a word; empty: exactly as in KPO.
        convert: makes the API's JSON of the parameter's name and what users give; refuses what is no such thing.
        empty: makes the operator's attribute where nothing is given.
        kind: of the objects that KPO makes of the argument when the DAG file is read; empty: the attribute is what was
            given.
    """

    path: str
    note: str = ""
    convert: Callable[[str, object], object] = unchanged
    empty: Callable[[], object] | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class JobField:
    """Supported, as a field of :class:`dispatcher.spec.JobSpec`."""

    field: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Supported by code of its own, in the operator or in :mod:`airflow_bridge.pod_arguments`."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Accepted without effect.

    Attributes:
        default: KPO's; giving it is no reason to warn.
        why: for the warning and the migration page.
        is_attribute: whether KPO has an attribute of this name. Where it has none, a subclass may have a method.
        is_quiet: whether nobody needs to change anything: a debug line instead of a warning.
    """

    default: object
    why: str
    is_attribute: bool = True
    is_quiet: bool = False


_NO_CREDENTIALS = (
    "tasks hold no cluster credentials; the queue (podrelay_queue, or the connection's) chooses the cluster"
)
_NOTHING_POLLED = "nothing is polled: every change is told as it happens"
_OBJECT, _OBJECTS = "object or dict", "objects or dicts"

PARAMETERS: dict[str, PodField | JobField | Behaviour | Ignored] = {
    # The pod.
    "name": PodField("metadata.name", "the pod's name is made from it: `<name>-<hash>-<attempt>`", convert=text),
    "namespace": PodField(
        "metadata.namespace",
        "where neither task nor template says it: the connection's, then the worker's own",
        convert=text,
    ),
    "labels": PodField("metadata.labels", convert=texts_by_name, empty=dict),
    "annotations": PodField("metadata.annotations", convert=texts_by_name, empty=dict),
    "runtime_class_name": PodField("spec.runtimeClassName", convert=text),
    "node_selector": PodField("spec.nodeSelector", convert=texts_by_name, empty=dict),
    "affinity": PodField("spec.affinity", _OBJECT, api_object, empty=dict, kind="V1Affinity"),
    "tolerations": PodField("spec.tolerations", _OBJECTS, api_objects, empty=list, kind="V1Toleration"),
    "init_containers": PodField("spec.initContainers", _OBJECTS, api_objects, empty=list),
    "host_aliases": PodField("spec.hostAliases", _OBJECTS, api_objects),
    "image_pull_secrets": PodField(
        "spec.imagePullSecrets",
        "objects, dicts or a comma-separated text",
        pull_secrets,
        empty=list,
        kind="V1LocalObjectReference",
    ),
    "service_account_name": PodField("spec.serviceAccountName", convert=text),
    "automount_service_account_token": PodField("spec.automountServiceAccountToken", convert=flag),
    "hostnetwork": PodField("spec.hostNetwork", "refused unless the worker's [policy](policy.md) allows it", flag),
    "hostname": PodField("spec.hostname", convert=text),
    "subdomain": PodField("spec.subdomain", convert=text),
    "security_context": PodField("spec.securityContext", _OBJECT, api_object, empty=dict),
    "dnspolicy": PodField("spec.dnsPolicy", convert=text),
    "dns_config": PodField("spec.dnsConfig", _OBJECT, api_object),
    "schedulername": PodField("spec.schedulerName", convert=text),
    "priority_class_name": PodField("spec.priorityClassName", convert=text),
    "volumes": PodField("spec.volumes", _OBJECTS, api_objects, empty=list),
    "active_deadline_seconds": PodField("spec.activeDeadlineSeconds", convert=whole_number),
    "termination_grace_period": PodField("spec.terminationGracePeriodSeconds", convert=whole_number),
    # Its base container.
    "base_container_name": PodField("container.name", convert=text),
    "image": PodField("container.image", convert=text),
    "cmds": PodField("container.command", convert=texts, empty=list),
    "arguments": PodField("container.args", convert=texts, empty=list),
    "ports": PodField("container.ports", _OBJECTS, api_objects, empty=list, kind="V1ContainerPort"),
    "image_pull_policy": PodField("container.imagePullPolicy", convert=text),
    "container_resources": PodField("container.resources", _OBJECT, api_object),
    "volume_mounts": PodField("container.volumeMounts", _OBJECTS, api_objects, empty=list),
    "env_vars": PodField("container.env", "dict, objects or dicts", env_variables, empty=list),
    "pod_runtime_info_envs": PodField("container.env", _OBJECTS, api_objects, empty=list, kind="V1EnvVar"),
    "env_from": PodField("container.envFrom", _OBJECTS, api_objects, empty=list),
    "configmaps": PodField("container.envFrom", convert=config_maps, empty=list),
    "container_security_context": PodField("container.securityContext", _OBJECT, api_object),
    "termination_message_policy": PodField("container.terminationMessagePolicy", convert=text),
    # What the pod is made of besides.
    "full_pod_spec": Behaviour(f"{_OBJECT}; more containers than one: see *What differs*"),
    "pod_template_file": Behaviour("unknown fields are refused by the API server instead of being dropped"),
    "pod_template_dict": Behaviour("as `pod_template_file`"),
    "secrets": Behaviour(
        "the provider's `Secret`, or anything with its attributes; a volume's name is derived, not random"
    ),
    # The job around it.
    "do_xcom_push": JobField(
        "return_value", "up to 1 MiB, without exec rights: the value passes through the sidecar's log"
    ),
    "startup_timeout_seconds": JobField("startup_timeout_s", "counts from when the pod has a node"),
    "schedule_timeout_seconds": JobField(
        "schedule_timeout_s", "where it is not given, the pod waits for a node until `queue_timeout_s`"
    ),
    "on_finish_action": JobField("on_finish"),
    "durable": Behaviour(
        "False: every try is a job of its own; True: a retry attaches to the job, also when it has succeeded"
    ),
    "reattach_on_restart": Behaviour("as `durable`"),
    "get_logs": Behaviour(
        "False keeps the log out of Redis; the link *Pod log* leads to the site's own log store where the worker has "
        "`PODRELAY_LOG_URL_TEMPLATE`, else there is none"
    ),
    "container_logs": Behaviour("also while deferred, where KPO shows the base container's log alone"),
    "init_container_logs": Behaviour(),
    # The task.
    "deferrable": Behaviour(),
    "trigger_kwargs": Behaviour(),
    "on_kill_action": Behaviour("an execution timeout always cancels"),
    "skip_on_exit_code": Behaviour("never for a pod that was stopped from outside"),
    "callbacks": Behaviour("with our own objects for client and pod; see *Callbacks*"),
    "log_events_on_failure": Behaviour("the failure's message has the last three warnings in any case"),
    "log_events_on_startup": Behaviour("False: what a starting pod waits for is not logged"),
    "log_pod_spec_on_failure": Behaviour("logged as what was asked for, not inside the exception"),
    "log_formatter": Behaviour("while deferred: only a function that the triggerer can import"),
    "container_name_log_prefix_enabled": Behaviour(),
    # Without effect. As attributes they serve subclasses, and some are template fields.
    "kubernetes_conn_id": Ignored("kubernetes_default", _NO_CREDENTIALS, is_quiet=True),
    "in_cluster": Ignored(None, _NO_CREDENTIALS, is_quiet=True),
    "cluster_context": Ignored(None, _NO_CREDENTIALS, is_quiet=True),
    "config_file": Ignored(None, _NO_CREDENTIALS, is_quiet=True),
    "random_name_suffix": Ignored(
        True,
        "the pod is never called exactly `name` but `<name>-<hash>-<attempt>`: find it by its labels "
        "(`kubectl get pods -l dag_id=…,task_id=…,run_id=…`) or by the XCom `pod_name`",
    ),
    "xcom_sidecar_container_security_context": Ignored(
        None, "the return value's sidecar takes its security context from the base container's"
    ),
    "startup_check_interval_seconds": Ignored(5, _NOTHING_POLLED),
    "base_container_status_polling_interval": Ignored(1, _NOTHING_POLLED),
    "poll_interval": Ignored(2, _NOTHING_POLLED),
    "logging_interval": Ignored(None, "the log is live while the task is deferred"),
    "progress_callback": Ignored(None, "KPO itself does not call it any more: use `callbacks`", is_attribute=False),
    "is_delete_operator_pod": Ignored(
        None, "KPO itself does not read it any more: use `on_finish_action`", is_attribute=False
    ),
}

#: Ours alone.
ADDED: dict[str, str] = {
    "podrelay_conn_id": "the connection of type podrelay; default `podrelay_default`",
    "podrelay_queue": "the queue, which chooses the cluster; default: the connection's (`queue` stays Airflow's)",
    "podrelay_options": "any other field of the job spec, e.g. `{'queue_timeout_s': 600, 'retry_on': ['evicted']}`",
}


def attributes(given: Mapping[str, object], *, templated: Container[str]) -> Iterator[tuple[str, object]]:
    """Yield the attributes that the operator makes of its constructor's arguments.

    Raises:
        PodArgumentsError: KPO too would refuse it when the DAG file is read.
    """
    for name, parameter in PARAMETERS.items():
        if isinstance(parameter, PodField):
            yield name, _attribute(name, parameter, given[name], is_template=name in templated)
        elif not isinstance(parameter, Ignored) or parameter.is_attribute:
            yield name, given[name]


def _attribute(name: str, parameter: PodField, value: Any, *, is_template: bool) -> object:
    if parameter.empty is None:
        return value
    if not value:
        return parameter.empty()
    if not parameter.kind or is_template:
        return value
    checked = parameter.convert(name, value)
    return objects_of(parameter.kind, checked if isinstance(value, str) else value)


def arguments_of(operator: object) -> dict[str, Any]:
    """Read the operator's attributes, by the names of the parameters that have an effect."""
    meant = [name for name, parameter in PARAMETERS.items() if not isinstance(parameter, Ignored)]
    return {name: getattr(operator, name) for name in (*meant, *ADDED)}


def pod_mutation_hooks() -> list[str]:
    """List the plugins of this Airflow with a ``pod_mutation_hook``, which KPO applies and podrelay cannot.

    It takes the kubernetes client's ``V1Pod``, which is not needed here; the worker's policy decides what pods may be.
    """
    try:
        from airflow.policies import DefaultPolicy
        from airflow.settings import get_policy_plugin_manager
    except ImportError:  # a task's process without Airflow's core
        return []
    found = get_policy_plugin_manager().hook.pod_mutation_hook.get_hookimpls()
    return [str(each.plugin_name) for each in found if each.plugin is not DefaultPolicy]
