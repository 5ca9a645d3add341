"""The link *Pod log* on a task instance's page: to the site's own log store (Loki, Elasticsearch …).

The worker has the site's URL template; its result brings the finished URL.
"""

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class PodLogLink(BaseOperatorLink):
    """The link to the pod's log; empty where the worker has no URL template."""

    name = "Pod log"

    def get_link(self, operator: "BaseOperator", *, ti_key: "TaskInstanceKey") -> str:
        """Return the URL. Airflow asks in the task's own process after its end, when the operator knows it."""
        return getattr(operator, "log_url", None) or ""
