"""The link to a pod's log elsewhere: for sites whose logs go to Loki, Elasticsearch …, and for ``get_logs=False``.

The worker is configured with the site's URL template; its result carries the finished URL.
"""

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class PodLogLink(BaseOperatorLink):
    """Shown on the task instance's page; empty where the worker has no template."""

    name = "Pod log"

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:
        """Called in the task's own process after it has ended: the operator knows the result."""
        return getattr(operator, "log_url", None) or ""
