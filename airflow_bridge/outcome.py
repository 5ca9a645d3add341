"""How a job's result ends Airflow's task: a value, a skip or a failure, with lines and XComs.

Pure: it decides, the operator carries it out. A job that was cancelled, or whose pod was deleted, is a failure,
whatever its exit code.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException

from airflow_bridge.failure_text import failure_message
from airflow_bridge.masking import masked
from airflow_bridge.task_log import Line
from dispatcher.names import RETURN_VALUE_CONTAINER
from dispatcher.status import FailureReason, Status

if TYPE_CHECKING:
    from airflow_bridge.parameters import Arguments
    from dispatcher.events import JobResult

#: Reasons by which the pod was stopped from outside: its exit code is not the code's own.
_STOPPED = frozenset(
    {
        FailureReason.POD_DELETED,
        FailureReason.EVICTED,
        FailureReason.PREEMPTED,
        FailureReason.NODE_LOST,
        FailureReason.RUN_TIMEOUT,
        FailureReason.START_TIMEOUT,
    }
)


#: Outcomes of a return value that is there and cannot be used.
_UNUSABLE = {
    "not_json": "it is not JSON that can be read",
    "too_large": "it is too large",
    "truncated": "it did not arrive whole",
}


class PodRelayFailure(AirflowException):
    """The job failed or was cancelled. ``result``: all that is known of it."""

    def __init__(self, message: str, result: "JobResult | None" = None) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, slots=True)
class TaskSuccess:
    """The task succeeds with this value."""

    value: object
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class TaskSkip:
    """The task is skipped. ``xcoms``: a return value that its container wrote all the same."""

    message: str
    xcoms: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """The task fails. ``lines`` stand before its message; ``xcoms``: a value that its container wrote all the same."""

    message: str
    lines: tuple[Line, ...]
    xcoms: Mapping[str, object]


Outcome = TaskSuccess | TaskSkip | TaskFailure


def outcome_of(
    result: "JobResult", arguments: "Arguments", *, multiple_outputs: bool, manifest: Mapping[str, object]
) -> Outcome:
    """Decide how the task ends.

    Args:
        result: how the job ended.
        arguments: the operator's.
        multiple_outputs: Airflow's: a returned dict is pushed as one XCom for each key.
        manifest: the pod as it was asked for, for the log.
    """
    is_value_wanted = bool(arguments["do_xcom_push"])
    xcoms = _xcoms(result, multiple_outputs=multiple_outputs) if is_value_wanted else {}
    is_own_end = result.status is not Status.CANCELLED and result.reason not in _STOPPED
    if is_own_end and result.exit_code is not None and result.exit_code in arguments["skip_on_exit_code"]:
        return TaskSkip(f"Pod {result.pod} returned exit code {result.exit_code}. Skipping.", xcoms)
    if result.status is Status.SUCCEEDED:
        value = result.return_value if is_value_wanted else None
        return TaskSuccess(value, tuple(_lines_of_success(result, is_value_wanted=is_value_wanted)))
    message = failure_message(result)
    lines = [*_lines_of_failure(result, arguments, manifest)]
    if is_value_wanted:
        lines[:0] = _lines_about_the_value(result, multiple_outputs=multiple_outputs)
    return TaskFailure(message, tuple(lines), xcoms)


def _lines_of_success(result: "JobResult", *, is_value_wanted: bool) -> Iterator[Line]:
    yield Line(logging.INFO, "The pod succeeded.")
    if is_value_wanted and result.return_value_outcome == "missing":
        yield Line(logging.INFO, "No return value: the container wrote no /airflow/xcom/return.json.")


def _lines_of_failure(result: "JobResult", arguments: "Arguments", manifest: Mapping[str, object]) -> Iterator[Line]:
    if arguments["log_events_on_failure"]:
        yield from _container_states(result)
        for event in result.warnings if result.events is None else result.events:
            level = logging.WARNING if event.is_warning else logging.INFO
            yield Line(level, f"Pod Event: {event.reason} - {event.message}")
    if arguments["log_pod_spec_on_failure"]:
        # Folded on the task's page, so that the container's last lines stay near the message.
        yield Line(logging.INFO, "::group::The pod as it was asked for")
        sidecar = f", and the sidecar {RETURN_VALUE_CONTAINER}" if arguments["do_xcom_push"] else ""
        yield Line(logging.INFO, f"The worker adds labels and annotations of its own{sidecar}.")
        yield Line(logging.INFO, json.dumps(masked(manifest), indent=1))
        yield Line(logging.INFO, "::endgroup::")
    for container, text in (result.last_lines or {}).items():
        yield Line(logging.INFO, f"Last lines of container {container!r}, whose log was not asked for:")
        yield from (Line(logging.INFO, f"[{container}] {line}") for line in text.splitlines())


def _xcoms(result: "JobResult", *, multiple_outputs: bool) -> dict[str, object]:
    """Return the value of a task that does not succeed as the XComs that KPO pushes."""
    value = result.return_value
    if value is None or result.status is Status.SUCCEEDED:
        return {}
    spread = value if multiple_outputs and isinstance(value, Mapping) else {}
    return {**spread, "return_value": value}


def _lines_about_the_value(result: "JobResult", *, multiple_outputs: bool) -> Iterator[Line]:
    """Say why a failed task has no XCom, or not each, that was asked for: the task fails by what failed first."""
    why = _UNUSABLE.get(result.return_value_outcome)
    if why is not None and result.reason is not FailureReason.RETURN_VALUE:
        yield Line(logging.WARNING, f"The return value is not pushed: {why}.")
    elif multiple_outputs and not isinstance(result.return_value, Mapping | type(None)):
        kind = type(result.return_value).__name__
        yield Line(logging.WARNING, f"multiple_outputs: the return value is no dictionary but {kind}: pushed whole.")


def _container_states(result: "JobResult") -> Iterator[Line]:
    """Tell each container's last known state in KPO's words."""
    for c in result.containers:
        state = f"Container '{c.name}': state='{c.state.upper()}'"
        match c.state:
            case "terminated":
                level = logging.INFO if c.exit_code == 0 else logging.ERROR
                told = f"{state}, reason='{c.reason}', exit_code={c.exit_code}, message='{c.message}'"
                yield Line(level, told)
            case "waiting":
                yield Line(logging.WARNING, f"{state}, reason='{c.reason}', message='{c.message}'")
            case "running":
                yield Line(logging.INFO, f"{state}, started_at={c.started_at}")
