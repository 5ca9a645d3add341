"""The end of a task whose job has ended: XComs, hooks, the outcome, and last the acknowledgement.

The order matters. Acknowledging says that the result is taken, so that the task's next try (a clear) makes a new job; a
process that dies before has its next try take the same result.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from airflow_bridge.callbacks import ExecutionMode, JobClient, PodView, call
from airflow_bridge.outcome import Failure, PodRelayFailure, Skip, Success, container_states, outcome_of
from dispatcher.errors import PodrelayError

if TYPE_CHECKING:
    from airflow_bridge.operator import PodRelayOperator
    from dispatcher.client import Dispatcher
    from dispatcher.events import JobResult


@dataclass(frozen=True, slots=True)
class Finishing:
    """One task's end. ``manifest``: the pod as asked."""

    operator: "PodRelayOperator"
    context: Mapping[str, Any]
    dispatcher: "Dispatcher"
    result: "JobResult"
    manifest: Mapping[str, Any]

    def run(self) -> Any:
        """Returns the value for XCom.

        Raises:
            AirflowSkipException: the exit code says so.
            PodRelayFailure: anything but success.
        """
        operator, result = self.operator, self.result
        operator.log_url = result.log_url
        push_pod(self.context, result.pod, result.namespace)
        for hook in ("on_pod_completion", "on_pod_teardown"):
            self._call(hook)
        match outcome_of(result, operator.skip_on_exit_code):
            case Success(value=value):
                self._call("on_pod_cleanup")
                operator.raise_if_killed()
                self.dispatcher.acknowledge(result.job_id)
                self._tell_value()
                return value if operator.do_xcom_push else None
            case Skip(message=message):
                self._acknowledge_failure()
                raise AirflowSkipException(message)
            case Failure(message=message):
                raise self._failure(message)

    def _failure(self, message: str) -> PodRelayFailure:
        operator, result = self.operator, self.result
        if operator.do_xcom_push:
            push_value(self.context, result.return_value, multiple_outputs=operator.multiple_outputs)
        if operator.log_events_on_failure:
            for line in container_states(result):
                operator.log.info(line)
            for warning in result.warnings:
                operator.log.warning("Pod Event: %s - %s", warning.reason, warning.message)
        if operator.log_pod_spec_on_failure:
            # Folded up on the task's page, so that what the container wrote last stays near what is said of it.
            operator.log.info("::group::The pod as it was asked for")
            operator.log.info(json.dumps(self.manifest, indent=1))
            operator.log.info("::endgroup::")
        for line in message.splitlines():  # of an exception the page shows only what fits beside the traceback
            operator.log.error(line)
        self._acknowledge_failure()
        return PodRelayFailure(message, result)

    def _acknowledge_failure(self) -> None:
        """Only to free memory earlier: a failed job's key makes a new one in any case."""
        try:
            self.dispatcher.acknowledge(self.result.job_id)
        except PodrelayError as error:
            self.operator.log.debug("not acknowledged: %s", error)

    def _tell_value(self) -> None:
        operator, result = self.operator, self.result
        operator.log.info("Job %s succeeded in pod %s/%s.", result.job_id, result.namespace, result.pod)
        if operator.do_xcom_push and result.return_value_outcome == "missing":
            operator.log.info("No return value: the container wrote no /airflow/xcom/return.json.")

    def _call(self, hook: str) -> None:
        client = JobClient(self.dispatcher, self.result.job_id)
        pod = PodView.of_result(self.result)
        known = {"client": client, "pod": pod, "mode": ExecutionMode.SYNC, "operator": self.operator}
        call(self.operator.callbacks, hook, context=self.context, **known)


def push_pod(context: Mapping[str, Any], pod: str | None, namespace: str | None) -> None:
    """KPO's XComs ``pod_name`` and ``pod_namespace``."""
    if pod:
        context["ti"].xcom_push(key="pod_name", value=pod)
        context["ti"].xcom_push(key="pod_namespace", value=namespace)


def push_value(context: Mapping[str, Any], value: Any, *, multiple_outputs: bool) -> None:
    """The return value of a task that fails, as KPO pushes it: ``multiple_outputs`` spreads a dict over its keys."""
    if value is None:
        return
    if multiple_outputs:
        if not isinstance(value, Mapping):
            raise TypeError(f"Returned output was type {type(value)} expected dictionary for multiple_outputs")
        for name, part in value.items():
            context["ti"].xcom_push(key=name, value=part)
    context["ti"].xcom_push(key="return_value", value=value)
