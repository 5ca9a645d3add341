"""KPO's callback hooks, under KPO's names, with our own objects in place of a Kubernetes client and ``V1Pod``.

``pod`` is a :class:`CallbackPod` (``pod.metadata.name``, ``pod.metadata.namespace`` and ``pod.status.phase`` as in
``V1Pod``); ``client`` is a :class:`JobClient`, in the triggerer an :class:`AsyncJobClient`. A hook may be a plain
function or a coroutine function in both. Which hook is called where: ``docs/migrating-from-kpo.md``.
"""

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from airflow_bridge.api_json import ApiObject
from airflow_bridge.kubernetes_object import KubernetesObject, kubernetes_object

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from dispatcher.aio import AsyncDispatcher
    from dispatcher.client import Dispatcher
    from dispatcher.events import ContainerEnd, JobResult, StatusChanged
    from dispatcher.record import JobRecord
    from dispatcher.steps import CancelOutcome

    #: None in the triggerer, which has no operator.
    Operator = BaseOperator | None


class ExecutionMode(StrEnum):
    """Where a hook is called: in the task's process, or in the triggerer."""

    SYNC = "sync"
    ASYNC = "async"


_PHASES = {"QUEUED": "Pending", "STARTING": "Pending", "RUNNING": "Running", "SUCCEEDED": "Succeeded"}


class _KnownPart:
    """A part of a pod, or a client, of which users ask what KPO's has; what is not there is told in a sentence."""

    __slots__ = ()

    if not TYPE_CHECKING:  # else mypy would let any name pass

        def __getattr__(self, name: str) -> object:
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(_MISSING[type(self).__name__].format(name=name) + _PAGE)


_PAGE = ". See docs/migrating-from-kpo.md, 'Callbacks'"
_POD = (
    "is not known to podrelay: a hook gets the pod's name, namespace, phase, node and result, at the end the states of "
    "its containers, and operator.pod_request_obj is the pod as it was asked for"
)
_CLIENT = (
    "{{name}} is a Kubernetes client's, for which Airflow has no credentials: client is podrelay's {}, with record(), "
    "cancel(by) and dispatcher"
)
_MISSING = {
    "CallbackPod": f"pod.{{name}} {_POD}",
    "PodMetadata": f"pod.metadata.{{name}} {_POD}",
    "PodStatus": f"pod.status.{{name}} {_POD}",
    "JobClient": _CLIENT.format("JobClient"),
    "AsyncJobClient": _CLIENT.format("AsyncJobClient"),
}


@dataclass(frozen=True, slots=True)
class PodMetadata(_KnownPart):
    """As ``V1ObjectMeta``."""

    name: str | None
    namespace: str | None
    uid: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodStatus(_KnownPart):
    """As ``V1PodStatus``; the containers' states are known when the job has ended, None before."""

    phase: str
    container_statuses: list[KubernetesObject] | None = None
    init_container_statuses: list[KubernetesObject] | None = None

    @classmethod
    def of_result(cls, result: "JobResult") -> "PodStatus":
        """Make it from the job's result."""
        states = {is_init: [_state(c) for c in result.containers if c.is_init is is_init] for is_init in (False, True)}
        return cls(_PHASES.get(result.status.value, "Failed"), states[False], states[True] or None)


def _state(container: "ContainerEnd") -> KubernetesObject:
    """Return it as ``V1ContainerStatus``, as far as it is known."""
    known = {
        "exitCode": container.exit_code,
        "reason": container.reason,
        "message": container.message,
        "startedAt": container.started_at,
        "finishedAt": container.finished_at,
    }
    state = ApiObject({name: value for name, value in known.items() if value is not None})
    return kubernetes_object(
        "V1ContainerStatus", {"name": container.name, "state": ApiObject({container.state: state})}
    )


@dataclass(frozen=True, slots=True)
class CallbackPod(_KnownPart):
    """The job's pod as hooks get it, as far as the channel tells; ``result`` is set when the job has ended."""

    job_id: str
    metadata: PodMetadata
    status: PodStatus
    node: str | None = None
    attempt: int = 0
    result: "JobResult | None" = None

    @classmethod
    def of_change(cls, job_id: str, change: "StatusChanged") -> "CallbackPod":
        """Make it from a change of the job's status."""
        status = PodStatus(_PHASES.get(change.status.value, "Failed"))
        return cls(job_id, PodMetadata(change.pod, change.namespace), status, change.node, change.attempt)

    @classmethod
    def of_result(cls, result: "JobResult") -> "CallbackPod":
        """Make it from the job's result."""
        metadata = PodMetadata(result.pod, result.namespace, result.pod_uid)
        return cls(result.job_id, metadata, PodStatus.of_result(result), result.node, result.attempt, result)


@dataclass(frozen=True, slots=True)
class HookCall:
    """A hook that is due; ``details``: its arguments besides the pod and what the caller adds."""

    hook: str
    pod: CallbackPod | None
    details: Mapping[str, object] = field(default_factory=dict)

    def arguments(
        self, *, client: "Client", mode: ExecutionMode, operator: "Operator", context: Mapping[str, object]
    ) -> dict[str, object]:
        """Return all arguments of the call. As in KPO, ``progress_callback`` gets neither operator nor context."""
        task = {} if self.hook == "progress_callback" else {"operator": operator, "context": context}
        return {"pod": self.pod, **self.details, "client": client, "mode": mode, **task}


@dataclass(frozen=True, slots=True)
class JobClient(_KnownPart):
    """What a hook in the task's process may do with the job; ``job_id`` is None before the submit."""

    dispatcher: "Dispatcher"
    job_id: str | None

    def record(self) -> "JobRecord":
        """Read the job's record."""
        return self.dispatcher.get(self._known())

    def cancel(self, by: str) -> "CancelOutcome":
        """Cancel the job; ``by``: who does."""
        return self.dispatcher.cancel(self._known(), by)

    def _known(self) -> str:
        if self.job_id is None:
            raise RuntimeError("the job is not submitted yet")
        return self.job_id


@dataclass(frozen=True, slots=True)
class AsyncJobClient(_KnownPart):
    """What a hook in the triggerer may do with the job."""

    dispatcher: "AsyncDispatcher"
    job_id: str

    async def record(self) -> "JobRecord":
        """Read the job's record."""
        return await self.dispatcher.get(self.job_id)

    async def cancel(self, by: str) -> "CancelOutcome":
        """Cancel the job; ``by``: who does."""
        return await self.dispatcher.cancel(self.job_id, by)


Client = JobClient | AsyncJobClient


class PodRelayCallback:
    """The hooks. Inherit from this or from KPO's own class; define what you need; take ``**kwargs``."""

    @staticmethod
    def on_sync_client_creation(*, client: Client, operator: "Operator", **kwargs: object) -> object:
        """Run when the task's process has opened its client."""

    @staticmethod
    def on_pod_manifest_created(
        *,
        pod_request: dict[str, Any],
        client: Client,
        mode: str,
        operator: "Operator",
        context: "Context",
        **kwargs: object,
    ) -> object:
        """Run before the submit: the pod's manifest, as JSON in the API's form, may be changed in place."""

    @staticmethod
    def on_pod_creation(
        *, pod: CallbackPod, client: Client, mode: str, operator: "Operator", context: "Context", **kwargs: object
    ) -> object:
        """Run when the pod exists."""

    @staticmethod
    def on_pod_starting(
        *, pod: CallbackPod, client: Client, mode: str, operator: "Operator", context: "Context", **kwargs: object
    ) -> object:
        """Run when the base container has started."""

    @staticmethod
    def on_pod_completion(
        *, pod: CallbackPod, client: Client, mode: str, operator: "Operator", context: "Context", **kwargs: object
    ) -> object:
        """Run when the job has ended, well or not."""

    @staticmethod
    def on_pod_teardown(
        *, pod: CallbackPod, client: Client, mode: str, operator: "Operator", context: "Context", **kwargs: object
    ) -> object:
        """Run after the ``on_pod_completion`` of all callbacks."""

    @staticmethod
    def on_pod_cleanup(
        *, pod: CallbackPod, client: Client, mode: str, operator: "Operator", context: "Context", **kwargs: object
    ) -> object:
        """Run when the task is about to succeed: as in KPO, not when it fails or is skipped."""

    @staticmethod
    def on_operator_resuming(
        *,
        pod: CallbackPod,
        event: dict[str, Any],
        client: Client,
        mode: str,
        operator: "Operator",
        context: "Context",
        **kwargs: object,
    ) -> object:
        """Run when a deferred task goes on."""

    @staticmethod
    def progress_callback(
        *,
        line: str,
        client: Client,
        mode: str,
        container_name: str,
        timestamp: datetime,
        pod: CallbackPod | None,
        **kwargs: object,
    ) -> object:
        """Run for each line that a container wrote."""


Callbacks = Sequence[type]


def classes_of(callbacks: type | Sequence[type] | None) -> list[type]:
    """Read KPO's parameter ``callbacks``: nothing, one class, or a list of classes.

    Raises:
        ValueError: there is something without a hook among them, of which nothing would ever be called.
    """
    found = list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []
    for each in found:
        if not any(hasattr(each, hook) for hook in vars(PodRelayCallback) if not hook.startswith("_")):
            raise ValueError(f"callbacks: {each!r} has none of the hooks: give a class made from PodRelayCallback")
    return cast("list[type]", found)


def call(callbacks: Callbacks, hook: str, **arguments: object) -> None:
    """Call a hook of each class, in order. As in KPO, what a hook raises, the task raises."""
    for function in _defined(callbacks, hook):
        answer = function(**arguments)
        if inspect.isawaitable(answer):
            asyncio.run(_awaited(answer))


async def acall(callbacks: Callbacks, hook: str, **arguments: object) -> None:
    """Call as :func:`call` does, in an event loop: plain functions run in a thread, so that they do not block it."""
    for function in _defined(callbacks, hook):
        if inspect.iscoroutinefunction(function):
            await function(**arguments)
            continue
        answer = await asyncio.to_thread(_in_thread, function, arguments)
        if inspect.isawaitable(answer):
            await answer


def _in_thread(function: Callable[..., object], arguments: Mapping[str, object]) -> object:
    try:
        return function(**arguments)
    except StopIteration as error:  # no future can hold it: whoever awaits the thread would wait for ever
        raise RuntimeError(repr(error)) from error


class UserCodeError(Exception):
    """What the user's code raised in the triggerer."""


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Turn whatever the user's code raises into :class:`UserCodeError`.

    A SystemExit would end the triggerer, and with it all other tasks' triggers. That the trigger itself is cancelled
    goes through.

    Args:
        what: whose code it is, for the message.
    """
    try:
        yield
    except GeneratorExit:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        raise UserCodeError(f"{what} failed: {error!r}") from error


async def _awaited(answer: Awaitable[object]) -> None:
    await answer


def _defined(callbacks: Callbacks, hook: str) -> Iterable[Callable[..., object]]:
    """Find the functions of this name, without those that are only inherited from our class."""
    nothing = getattr(PodRelayCallback, hook)
    found = (getattr(callback, hook, None) for callback in callbacks)
    return [function for function in found if function is not None and function is not nothing]


def import_path(thing: object) -> str | None:
    """Return the ``module:name`` by which the triggerer can import a class or function; None where it cannot.

    It cannot import from a DAG file: Airflow makes up the name of that module.
    """
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not module or not name or "<" in name or module == "__main__" or module.startswith("unusual_prefix_"):
        return None
    return f"{module}:{name}"


def import_object(path: str) -> Any:
    """Import the class or function at a path of :func:`import_path`.

    Raises:
        ImportError: its module is not there.
        AttributeError: the module has no such name.
    """
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
