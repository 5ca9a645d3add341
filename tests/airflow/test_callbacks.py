"""Which hook is called when, with what, in both modes. The hooks' table in the documentation is this."""

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

import pytest
from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.utils.container import container_is_succeeded
from kubernetes import client as k8s

from airflow_bridge.callbacks import AsyncJobClient, JobClient, PodRelayCallback, import_object, import_path
from airflow_bridge.outcome import PodRelayFailure
from dispatcher.events import ContainerEnd
from dispatcher.status import FailureReason
from tests.support.scripted_worker import PlayedJob, Script, ScriptedWorker
from tests.support.task_run import TaskLog, TaskRun, fired_by

HOOKS = [name for name in vars(PodRelayCallback) if not name.startswith("__")]


class Recorder(PodRelayCallback):
    """Notes every call."""

    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []


def recording(hook: str) -> Any:
    def record(**arguments: Any) -> None:
        Recorder.calls.append((hook, arguments))

    return staticmethod(record)


for hook_name in HOOKS:
    setattr(Recorder, hook_name, recording(hook_name))


class AsyncRecorder(PodRelayCallback):
    """As Recorder, with a coroutine function."""

    @staticmethod
    async def on_pod_starting(**arguments: Any) -> None:
        Recorder.calls.append(("async on_pod_starting", arguments))
        if isinstance(arguments["client"], AsyncJobClient):
            record = await arguments["client"].record()
            assert record.job_id == arguments["pod"].job_id


class KpoStyle(KubernetesPodOperatorCallback):
    """A callback as written for KPO."""

    @staticmethod
    def on_pod_creation(*, pod: Any, client: Any, mode: str, operator: Any, context: Any, **kwargs: Any) -> None:
        Recorder.calls.append(("kpo", {"told": (pod.metadata.name, pod.metadata.namespace, pod.status.phase, mode)}))


class Failing(PodRelayCallback):
    @staticmethod
    def on_pod_starting(**_: Any) -> None:
        raise ZeroDivisionError


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    Recorder.calls.clear()


def hello(job: PlayedJob) -> None:
    job.starting().running().log(b"hello\n").succeed()


def telling(task_log: TaskLog) -> Script:
    """The log comes when the move is told: within one millisecond the two streams have no order."""

    def script(job: PlayedJob) -> None:
        job.starting().running()
        task_log.wait_for("RUNNING")
        job.log(b"hello\n").succeed()

    return script


def called() -> list[str]:
    return [hook for hook, _ in Recorder.calls]


def test_the_hooks_are_kpos() -> None:
    assert set(HOOKS) == {name for name in vars(KubernetesPodOperatorCallback) if not name.startswith("__")}


def test_sync_every_hook_in_its_order(task_run: TaskRun, task_log: TaskLog) -> None:
    with ScriptedWorker(task_run.redis_url, telling(task_log)) as worker:
        task_run.execute(callbacks=[Recorder])
    assert called() == [
        "on_sync_client_creation",
        "on_pod_manifest_created",
        "on_pod_creation",
        "on_pod_starting",
        "progress_callback",
        "on_pod_completion",
        "on_pod_teardown",
        "on_pod_cleanup",
    ]
    told = dict(Recorder.calls)
    job = worker.played[0]
    assert told["on_pod_creation"]["pod"].metadata.name == job.pod
    assert told["on_pod_starting"]["pod"].status.phase == "Running"
    assert told["on_pod_completion"]["pod"].result.exit_code == 0
    assert (told["progress_callback"]["line"], told["progress_callback"]["container_name"]) == ("hello", "base")
    assert all(isinstance(arguments["client"], JobClient) for arguments in told.values())
    assert {str(arguments["mode"]) for hook, arguments in told.items() if "mode" in arguments} == {"sync"}
    assert all(a["operator"] is task_run.operator for hook, a in told.items() if hook != "progress_callback")


def test_deferred_every_hook_in_its_order(task_run: TaskRun, task_log: TaskLog) -> None:
    with ScriptedWorker(task_run.redis_url, telling(task_log), arrives_after=task_run.is_deferred.wait):
        deferred = task_run.defer(callbacks=[Recorder])
        event = fired_by(deferred.trigger)
        task_run.resume(deferred.method_name, {"event": event}, callbacks=[Recorder])
    assert [(hook, str(a.get("mode", "sync"))) for hook, a in Recorder.calls] == [
        ("on_sync_client_creation", "sync"),
        ("on_pod_manifest_created", "sync"),
        ("on_pod_creation", "async"),
        ("on_pod_starting", "async"),
        ("progress_callback", "async"),
        ("on_operator_resuming", "sync"),
        ("on_pod_completion", "sync"),
        ("on_pod_teardown", "sync"),
        ("on_pod_cleanup", "sync"),
    ]
    assert dict(Recorder.calls)["on_operator_resuming"]["event"] == event


def test_a_failing_task_calls_completion_and_teardown_but_not_cleanup_as_in_kpo(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().fail()), pytest.raises(PodRelayFailure):
        task_run.execute(callbacks=Recorder)
    assert called()[-2:] == ["on_pod_completion", "on_pod_teardown"]


def test_coroutine_functions_are_awaited_in_both_modes(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, hello):
        task_run.execute(callbacks=AsyncRecorder)
    task_run.next_try()
    with ScriptedWorker(task_run.redis_url, hello, arrives_after=task_run.is_deferred.wait):
        fired_by(task_run.defer(callbacks=AsyncRecorder).trigger)
    assert called() == ["async on_pod_starting"] * 2


def test_a_callback_written_for_kpo_is_called(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, hello) as worker:
        task_run.execute(callbacks=KpoStyle)
    assert Recorder.calls == [("kpo", {"told": (worker.played[0].pod, "team-a", "Pending", "sync")})]


def test_the_manifest_can_be_changed_before_it_is_submitted(task_run: TaskRun) -> None:
    class Annotate(PodRelayCallback):
        @staticmethod
        def on_pod_manifest_created(*, pod_request: dict[str, Any], **_: Any) -> None:
            pod_request["spec"]["priorityClassName"] = "low"

    with ScriptedWorker(task_run.redis_url, hello) as worker:
        task_run.execute(callbacks=Annotate)
    assert (worker.played[0].spec.pod_template or {})["spec"]["priorityClassName"] == "low"


def test_what_a_hook_raises_the_task_raises(task_run: TaskRun) -> None:
    with ScriptedWorker(task_run.redis_url, hello), pytest.raises(ZeroDivisionError):
        task_run.execute(callbacks=Failing)


def test_what_a_hook_raises_in_the_triggerer_is_logged_and_the_task_goes_on(
    task_run: TaskRun, task_log: TaskLog
) -> None:
    with ScriptedWorker(task_run.redis_url, hello, arrives_after=task_run.is_deferred.wait):
        event = fired_by(task_run.defer(callbacks=Failing).trigger)
    assert event["status"] == "success"
    assert "callback on_pod_starting failed" in task_log.lines


def elsewhere() -> type[Recorder]:
    """A class of a module that only the task's process can import, as one in the DAGs folder."""
    late = type("Late", (Recorder,), {})
    late.__module__ = "no_such_module"
    late.__qualname__ = "Late"
    return late


def in_the_dag_file() -> type[Recorder]:
    return type("<locals>.Late", (Recorder,), {})


LATE = ["on_pod_creation", "on_pod_starting", "on_operator_resuming", "on_pod_completion", "on_pod_teardown"]


@pytest.mark.parametrize("make", [elsewhere, in_the_dag_file])
@pytest.mark.parametrize(
    ("script", "hooks"),
    [
        (hello, [*LATE, "on_pod_cleanup"]),
        (lambda job: job.starting().fail(FailureReason.IMAGE_PULL), [LATE[0], *LATE[2:]]),
        (lambda job: job.fail(FailureReason.POLICY, pod=None, namespace=None), LATE[2:]),
    ],
    ids=["ran", "never ran", "no pod"],
)
def test_deferred_what_the_triggerer_could_not_call_is_called_when_the_task_goes_on(
    make: Callable[[], type[Recorder]], script: Script, hooks: list[str], task_run: TaskRun
) -> None:
    callback = make()
    with ScriptedWorker(task_run.redis_url, script, arrives_after=task_run.is_deferred.wait) as worker:
        deferred = task_run.defer(callbacks=[callback, Other])
        event = fired_by(deferred.trigger)
        with suppress(PodRelayFailure):
            task_run.resume(deferred.method_name, {"event": event}, callbacks=[callback, Other])
    calls = [call for call in Recorder.calls if call[0] != "other"]
    assert [hook for hook, _ in calls] == ["on_sync_client_creation", "on_pod_manifest_created", *hooks]
    assert {str(told["mode"]) for hook, told in calls if hook in hooks} == {"sync"}
    for hook, told in calls:
        if hook in LATE[:2]:
            assert told["pod"].metadata.name == worker.played[0].pod
    assert Recorder.calls.count(("other", {})) == (LATE[0] in hooks), (
        "what the triggerer has called is not called again"
    )


class Other(PodRelayCallback):
    @staticmethod
    def on_pod_creation(**_: Any) -> None:
        Recorder.calls.append(("other", {}))


def test_deferred_what_a_late_hook_raises_fails_the_task(task_run: TaskRun) -> None:
    def fails(**_: Any) -> None:
        raise ZeroDivisionError

    callback = type("<locals>.Fails", (PodRelayCallback,), {"on_pod_creation": staticmethod(fails)})
    with ScriptedWorker(task_run.redis_url, hello, arrives_after=task_run.is_deferred.wait) as worker:
        deferred = task_run.defer(callbacks=callback)
        event = fired_by(deferred.trigger)
        with pytest.raises(ZeroDivisionError):
            task_run.resume(deferred.method_name, {"event": event}, callbacks=callback)
    assert worker.played[0].record().cancel_requested_by is None


def test_only_what_another_process_can_import_has_a_path() -> None:
    class Local:
        pass

    assert import_path(Local) is None
    assert import_path(lambda: 0) is None
    assert import_object(import_path(AsyncRecorder) or "") is AsyncRecorder
    assert import_path(type("FromADagFile", (), {"__module__": "unusual_prefix_0ab_dag"})) is None


@pytest.mark.parametrize("client", [JobClient, AsyncJobClient])
def test_what_a_kubernetes_client_has_is_told_in_a_sentence(client: Any) -> None:
    with pytest.raises(AttributeError) as told:
        client(None, "job").read_namespaced_pod(name="p", namespace="n")
    assert str(told.value) == (
        "read_namespaced_pod is a Kubernetes client's, for which Airflow has no credentials: client is podrelay's "
        f"{client.__name__}, with record(), cancel(by) and dispatcher. See docs/migrating-from-kpo.md, 'Callbacks'"
    )
    assert not hasattr(client(None, "job"), "list_namespaced_pod")
    assert copy.deepcopy(client(None, "job")) == client(None, "job")


def test_what_is_known_of_a_pod_is_there_and_the_rest_is_told_in_a_sentence(task_run: TaskRun) -> None:
    """The states of the containers as KPO's own helper reads them."""
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().succeed(containers=ENDS)):
        task_run.execute(callbacks=[Recorder])
    pod = dict(Recorder.calls)["on_pod_completion"]["pod"]
    assert container_is_succeeded(pod, "base")
    (base,) = pod.status.container_statuses
    assert (base.name, base.state.terminated.exit_code, base.state.running) == ("base", 0, None)
    assert [each.name for each in pod.status.init_container_statuses] == ["setup"]
    assert dict(Recorder.calls)["on_pod_creation"]["pod"].status.container_statuses is None
    for path, ask in (
        ("pod.spec", lambda: pod.spec),
        ("pod.metadata.annotations", lambda: pod.metadata.annotations),
        ("pod.status.conditions", lambda: pod.status.conditions),
    ):
        with pytest.raises(AttributeError, match=rf"^{path} is not known to podrelay: .* 'Callbacks'$"):
            ask()


ENDS = (
    ContainerEnd(name="setup", state="terminated", is_init=True, exit_code=0),
    ContainerEnd(name="base", state="terminated", exit_code=0, reason="Completed"),
)


def test_a_hook_changes_the_pod_as_kpos(task_run: TaskRun) -> None:
    class Edit(PodRelayCallback):
        @staticmethod
        def on_pod_manifest_created(*, pod_request: Any, **_: Any) -> None:
            pod_request.metadata.labels["team"] = pod_request.metadata.labels["dag_id"]
            pod_request.spec.priority_class_name = "low"
            pod_request.spec.containers[0].env.append(k8s.V1EnvVar(name="A", value="1"))

    with ScriptedWorker(task_run.redis_url, hello) as worker:
        task_run.execute(callbacks=Edit)
    spec = worker.played[0].spec
    asked = (spec.pod_template or {})["spec"]
    assert (spec.labels["team"], asked["priorityClassName"]) == ("nightly", "low")
    assert asked["containers"][0]["env"] == [{"name": "A", "value": "1"}]
