"""Says which of an operator's parameters have no effect: once for each DAG file, and never in a task's log.

A DAG file is parsed again and again, and by each of its tasks: its author is told where it is parsed as a whole.
"""

import inspect
import logging
import warnings
from collections.abc import Mapping
from types import FrameType
from typing import Final

from airflow_bridge.parameters import PARAMETERS, Ignored

log = logging.getLogger(__name__)

#: Whose frames stand between a DAG file and an operator's constructor, or the making of its class.
_NOT_THE_DAGS: Final = ("airflow", "airflow_bridge", "abc")
#: What runs a task in its own process. It parses the file, and makes operators of mapped ones.
_RUNS_A_TASK: Final = "airflow.sdk.execution_time.task_runner"

_told: set[tuple[str, str]] = set()  #: file and parameter, in this process


class IgnoredParameterWarning(UserWarning):
    """A parameter was given that has no effect here."""


def warn_of_ignored(given: Mapping[str, object]) -> None:
    """Warn, at the line of the DAG file, of each parameter that was given and has no effect here."""
    ignored = {
        name: parameter
        for name, parameter in PARAMETERS.items()
        if isinstance(parameter, Ignored) and given[name] != parameter.default
    }
    frame = frame_of_the_dag() if ignored else None
    if frame is None:
        return
    for name, parameter in ignored.items():
        text, place = f"PodRelayOperator ignores {name}: {parameter.why}", (frame.f_code.co_filename, name)
        if parameter.is_quiet:
            log.debug(text)
        elif place not in _told:
            warnings.warn_explicit(text, IgnoredParameterWarning, frame.f_code.co_filename, frame.f_lineno)
            _told.add(place)


def frame_of_the_dag() -> FrameType | None:
    """Return the frame of the DAG file (or of a subclass's); None where a task is run."""
    frame, found = inspect.currentframe(), None
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module == _RUNS_A_TASK:
            return None
        if found is None and module.partition(".")[0] not in _NOT_THE_DAGS:
            found = frame
        frame = frame.f_back
    return found
