"""KPO's methods that this operator does not have: it never calls them, and a subclass that overrides one is told so.

They are KPO's talk with its cluster. A subclass that overrides one expects it to be called, and would lose its work
without a word. (A test compares the list with the installed provider.)
"""

import warnings
from collections.abc import Iterator
from typing import Final

from airflow_bridge.ignored_parameters import frame_of_the_dag

NEVER_CALLED: Final = frozenset(
    {
        "_build_find_pod_label_selector",
        "_clean",
        "_get_most_recent_pod_index",
        "_get_pod_from_task_state_store",
        "_get_ti_pod_labels",
        "_handle_api_exception",
        "_incluster_namespace",
        "_persist_pod_identity_to_task_state_store",
        "_push_xcom_with_fan_out",
        "_read_pod_container_states",
        "_read_pod_events",
        "_refresh_cached_properties",
        "_set_name",
        "_write_logs",
        "await_init_containers_completion",
        "await_pod_completion",
        "await_pod_start",
        "cleanup",
        "client",
        "convert_config_file_to_dict",
        "extract_xcom",
        "find_pod",
        "get_or_create_pod",
        "is_istio_enabled",
        "kill_istio_sidecar",
        "log_matching_pod",
        "patch_already_checked",
        "pod_manager",
        "post_complete_action",
        "process_duplicate_label_pods",
        "process_pod_deletion",
    }
)

_PAGE = "docs/migrating-from-kpo.md, 'Subclasses'"


class IgnoredOverrideWarning(UserWarning):
    """A subclass overrides methods of KPO that are never called here."""


def warn_of_overrides(made: type, operator: type) -> None:
    """Warn where a subclass of the operator is written, but in no task's log, of what it overrides in vain.

    Its bases have been told of already.
    """
    found = sorted(_overrides(made, operator))
    frame = frame_of_the_dag() if found else None
    if frame is not None:
        text = (
            f"{made.__qualname__} overrides {', '.join(found)} of KubernetesPodOperator, which PodRelayOperator never "
            f"calls: Airflow does not talk to the cluster. See {_PAGE}"
        )
        warnings.warn_explicit(text, IgnoredOverrideWarning, frame.f_code.co_filename, frame.f_lineno)


def _overrides(made: type, operator: type) -> Iterator[str]:
    told = {known for base in made.__bases__ if issubclass(base, operator) for known in base.__mro__}
    before = made.__mro__[: made.__mro__.index(operator)]  # what comes behind overrides nothing, as in KPO
    for each in before:
        if each not in told:
            yield from (
                name for name, value in vars(each).items() if name in NEVER_CALLED and hasattr(value, "__get__")
            )


def why_missing(name: str) -> str:
    """Say why the operator does not have one of :data:`NEVER_CALLED`."""
    return f"PodRelayOperator has no {name!r} of KubernetesPodOperator: it does not talk to the cluster. See {_PAGE}"
