"""Airflow's own cluster policy for pods, which KPO applies and podrelay cannot.

``pod_mutation_hook`` (``airflow_local_settings.py`` or a plugin) takes a ``V1Pod`` of a Kubernetes client that Airflow
does not need here; what pods may be is decided by the workers' policy, in the cluster. It must not go unnoticed.
"""


def hooks_that_are_not_applied() -> list[str]:
    """The plugins of this Airflow that define a ``pod_mutation_hook``."""
    try:
        from airflow.policies import DefaultPolicy
        from airflow.settings import get_policy_plugin_manager
    except ImportError:  # a task's process without Airflow's core
        return []
    found = get_policy_plugin_manager().hook.pod_mutation_hook.get_hookimpls()
    return [str(each.plugin_name) for each in found if each.plugin is not DefaultPolicy]
