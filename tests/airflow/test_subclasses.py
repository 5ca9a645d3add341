"""Subclasses as people write them for KPO: what they change reaches the pod, and what is never called is told."""

import inspect
import json
import re
import warnings
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred
from kubernetes import client as k8s

from airflow_bridge.callbacks import PodRelayCallback
from airflow_bridge.kpo_methods import NEVER_CALLED, IgnoredOverrideWarning
from airflow_bridge.operator import PodRelayOperator
from tests.support.installation import Installation
from tests.support.scripted_worker import ScriptedWorker
from tests.support.task_run import TaskLog, TaskRun, fired_by

PYTHON = {"task_id": "transform", "image": "python:3.12", "name": "transform"}
PRINT_ENV = ["python", "-c", "import os; print(os.environ.get('A'), os.environ.get('B'))"]


def made(operator: type[PodRelayOperator], **arguments: Any) -> PodRelayOperator:
    with DAG("nightly", schedule=None):
        return operator(**PYTHON, **arguments)


def run_in_cluster(run: TaskRun, operator: PodRelayOperator) -> Any:
    """The task as Airflow runs it, rendered first; deferred, it is resumed by what its trigger fires."""
    operator.render_template_fields({"word": "rendered", **run.context})
    try:
        return run.execute(operator)
    except TaskDeferred as deferred:
        event = fired_by(deferred.trigger)
        return operator.resume_execution(deferred.method_name, {"event": event}, run.context)


class ArgumentsOnly(PodRelayOperator):
    """Its constructor says what is run."""

    def __init__(self, *, script: str, **kwargs: Any) -> None:
        super().__init__(cmds=["python", "-c"], arguments=[script], env_vars={"A": "{{ word }}"}, **kwargs)


class SetsFields(PodRelayOperator):
    """Its ``execute`` knows only then what the pod needs."""

    def execute(self, context: Any) -> object:
        self.env_vars = [k8s.V1EnvVar(name="A", value="set"), {"name": "B", "value": "too"}]
        self.image_pull_secrets = [k8s.V1LocalObjectReference(name="registry")]
        self.tolerations.append(k8s.V1Toleration(key="spot"))
        self.labels = {"team": "a"}
        return super().execute(context)


class PropertyArguments(PodRelayOperator):
    """Its arguments are computed when they are read."""

    def __init__(self, **kwargs: Any) -> None:
        self._own: list[str] = []
        super().__init__(cmds=["python", "-c"], **kwargs)

    @property
    def arguments(self) -> list[str]:
        return [*self._own, "print('computed')"]

    @arguments.setter
    def arguments(self, value: list[str]) -> None:
        self._own = value


class BuildsThePod(PodRelayOperator):
    """It edits the pod as KPO's users do."""

    def build_pod_request_obj(self, context: Any = None, **_: Any) -> Any:
        pod = super().build_pod_request_obj(context)
        pod.metadata.labels["traced"] = pod.metadata.labels["task_id"]
        pod.metadata.annotations["trace"] = "00-1"
        pod.spec.volumes.append(k8s.V1Volume(name="shared", empty_dir=k8s.V1EmptyDirVolumeSource()))
        base = pod.spec.containers[0]
        base.env.append(k8s.V1EnvVar(name="B", value="built"))
        base.volume_mounts.append(k8s.V1VolumeMount(name="shared", mount_path="/shared"))
        side = k8s.V1Container(name="side", image="python:3.12", command=["python", "-c", "print('side by side')"])
        pod.spec.containers.append(side)
        return pod


class ReturnsAV1Pod(PodRelayOperator):
    """It makes the client's own object of the pod."""

    def build_pod_request_obj(self, context: Any = None, **_: Any) -> Any:
        answer = SimpleNamespace(data=json.dumps(super().build_pod_request_obj(context)))
        pod = k8s.ApiClient().deserialize(answer, "V1Pod")
        assert isinstance(pod, k8s.V1Pod)
        pod.spec.containers[0].env = [k8s.V1EnvVar(name="A", value="returned")]
        return pod


class Watch(PodRelayCallback):
    """What cosmos' warning handler does."""

    seen: list[str] = []  # noqa: RUF012

    @staticmethod
    def progress_callback(*, line: str, **_: Any) -> None:
        Watch.seen.append(line)


class LikeCosmos(PodRelayOperator):
    """It reads signature and variables, and adds a callback of its own."""

    def __init__(self, **kwargs: Any) -> None:
        known = inspect.signature(PodRelayOperator.__init__).parameters
        super().__init__(**{name: value for name, value in kwargs.items() if name in known or name == "task_id"})
        if isinstance(self.callbacks, list):
            self.callbacks.append(Watch)

    def execute(self, context: Any) -> object:
        found = {each.name: each.value for each in self.env_vars}
        self.env_vars = [k8s.V1EnvVar(name=name, value=f"{value}!") for name, value in found.items()]
        return super().execute(context)


def pod_of(installation: Installation, run: TaskRun) -> dict[str, Any]:
    job = run.ti.xcoms["podrelay_job_id"]
    (pod,) = [p for p in installation.pocket.ever_created() if p["labels"]["podrelay.dev/job"] == job]
    return pod


@pytest.mark.parametrize("deferrable", [False, True])
def test_arguments_only(deferrable: bool, real_run: TaskRun, task_log: TaskLog) -> None:
    script = "import os; print(os.environ['A'])"
    run_in_cluster(real_run, made(ArgumentsOnly, script=script, deferrable=deferrable))
    assert task_log.containers_lines() == ["[base] rendered"]


def test_execute_that_sets_fields(real_run: TaskRun, task_log: TaskLog) -> None:
    operator = made(SetsFields, cmds=PRINT_ENV)
    run_in_cluster(real_run, operator)
    assert task_log.containers_lines() == ["[base] set too"]
    spec = real_run.record(real_run.ti.xcoms["podrelay_job_id"]).spec
    asked = (spec.pod_template or {})["spec"]
    assert asked["imagePullSecrets"] == [{"name": "registry"}]
    assert asked["tolerations"] == [{"key": "spot"}]
    assert spec.labels["team"] == "a"


def test_arguments_as_a_property(real_run: TaskRun, task_log: TaskLog) -> None:
    run_in_cluster(real_run, made(PropertyArguments))
    assert task_log.containers_lines() == ["[base] computed"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_pod_that_is_edited_as_an_object(
    deferrable: bool, real_run: TaskRun, task_log: TaskLog, installation: Installation
) -> None:
    operator = made(BuildsThePod, cmds=PRINT_ENV, container_logs=True, deferrable=deferrable)
    run_in_cluster(real_run, operator)
    assert task_log.containers_lines() == ["[base] None built"]
    assert task_log.containers_lines("side") == ["[side] side by side"]
    assert pod_of(installation, real_run)["labels"]["traced"] == "transform"


def test_a_v1_pod_that_is_returned(real_run: TaskRun, task_log: TaskLog) -> None:
    run_in_cluster(real_run, made(ReturnsAV1Pod, cmds=PRINT_ENV))
    assert task_log.containers_lines() == ["[base] returned None"]


def test_one_that_reads_variables_and_adds_a_callback(real_run: TaskRun, task_log: TaskLog) -> None:
    Watch.seen.clear()
    run_in_cluster(real_run, made(LikeCosmos, cmds=PRINT_ENV, env_vars={"A": "1", "B": "{{ word }}"}))
    assert task_log.containers_lines() == ["[base] 1! rendered!"]
    assert Watch.seen == ["1! rendered!"]


def test_a_retry_of_an_edited_pod_attaches_to_it(task_run: TaskRun) -> None:
    """The pod as it is asked for is the same, whatever objects it was made of."""
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().succeed()) as worker:
        task_run.submit_and_die(made(BuildsThePod))
        worker.join()
        task_run.next_try()
        task_run.execute(made(BuildsThePod))
    assert len(worker.played) == 1


def test_what_kpo_holds_while_it_runs_is_held(task_run: TaskRun) -> None:
    operator = made(PodRelayOperator)
    assert (operator.pod, operator.remote_pod, operator.pod_request_obj) == (None, None, None)
    with ScriptedWorker(task_run.redis_url, lambda job: job.running().succeed()) as worker:
        task_run.execute(operator)
    assert operator.pod_request_obj.spec.containers[0].image == "python:3.12"
    assert operator.pod.metadata.name == operator.remote_pod.metadata.name == worker.played[0].pod
    assert operator.pod.status.phase == "Succeeded"


# What is never called


def methods_of(operator: type) -> set[str]:
    return {name for name, value in vars(operator).items() if hasattr(value, "__get__") and not name.startswith("__")}


def test_the_list_is_what_the_installed_kpo_has_and_we_have_not() -> None:
    ours = {name for kind in PodRelayOperator.__mro__ for name in methods_of(kind)}
    assert methods_of(KubernetesPodOperator) - ours == NEVER_CALLED


@pytest.mark.parametrize("name", sorted(NEVER_CALLED))
def test_a_method_that_is_never_called_is_told_by_name_when_the_class_is_made(name: str) -> None:
    with pytest.warns(IgnoredOverrideWarning) as told:
        type("Mine", (PodRelayOperator,), {name: lambda self, *_: None})
    (warning,) = told
    assert str(warning.message) == (
        f"Mine overrides {name} of KubernetesPodOperator, which PodRelayOperator never calls: Airflow does not talk to "
        "the cluster. See docs/migrating-from-kpo.md, 'Subclasses'"
    )


def test_all_names_of_a_class_are_told_once_and_where_it_is_written() -> None:
    with pytest.warns(IgnoredOverrideWarning) as told:

        class Mine(PodRelayOperator):
            @cached_property
            def client(self) -> None: ...

            @staticmethod
            def extract_xcom() -> None: ...

            @property
            def pod_manager(self) -> None: ...

    (warning,) = told
    assert "overrides client, extract_xcom, pod_manager of" in str(warning.message)
    assert warning.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        type("Child", (Mine,), {"execute": lambda self, context: None})


def test_a_tasks_own_process_is_told_of_no_override() -> None:
    """It parses the file too, and what is told there stands in the task's log."""
    runner: dict[str, Any] = {"__name__": "airflow.sdk.execution_time.task_runner", "make": type}
    exec("def parse(*of): return make(*of)", runner)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runner["parse"]("Mine", (PodRelayOperator,), {"find_pod": lambda self: None})


class Helper:
    """A class of the user's own, with a name that KPO has too."""

    def cleanup(self) -> None: ...


def test_a_mixin_that_stands_before_the_operator_overrides_and_one_behind_it_does_not() -> None:
    with pytest.warns(IgnoredOverrideWarning, match=r"^Before overrides cleanup of"):
        before = type("Before", (Helper, PodRelayOperator), {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        type("Behind", (PodRelayOperator, Helper), {})
        type("Again", (before, Helper), {})


@pytest.mark.parametrize(
    "name",
    [
        "execute",
        "execute_sync",
        "build_pod_request_obj",
        "on_kill",
        "trigger_reentry",
        "invoke_defer_method",
        "dry_run",
    ],
)
def test_what_is_called_is_no_matter_for_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        type("Mine", (PodRelayOperator,), {name: lambda self, *_: None, "my_own": 1, "pod": None})


def test_overridden_methods_are_called(task_run: TaskRun) -> None:
    class Mine(PodRelayOperator):
        called: list[str] = []  # noqa: RUF012

        def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> Any:
            self.called.append("build_pod_request_obj")
            return super().build_pod_request_obj(context, dry_run=dry_run)

        def invoke_defer_method(self, last_log_time: Any = None, context: Any = None) -> None:
            self.called.append("invoke_defer_method")
            super().invoke_defer_method(last_log_time, context)

        def trigger_reentry(self, context: Any, event: Any) -> Any:
            self.called.append(f"trigger_reentry: {event['status']}")
            return super().trigger_reentry(context, event)

        def on_kill(self) -> None:
            self.called.append("on_kill")
            super().on_kill()

    operator = made(Mine, deferrable=True)
    worker = ScriptedWorker(
        task_run.redis_url, lambda job: job.running().succeed(), arrives_after=task_run.is_deferred.wait
    )
    with worker:
        try:
            task_run.execute(operator)
        except TaskDeferred as deferred:
            task_run.is_deferred.set()
            event = fired_by(deferred.trigger)
    operator.resume_execution("trigger_reentry", {"event": event}, task_run.context)
    operator.on_kill()
    assert Mine.called == ["build_pod_request_obj", "invoke_defer_method", "trigger_reentry: success", "on_kill"]


@pytest.mark.parametrize("name", ["find_pod", "pod_manager", "client", "get_or_create_pod"])
def test_what_the_operator_does_not_have_says_why(name: str) -> None:
    operator = made(PodRelayOperator)
    with pytest.raises(AttributeError, match=rf"has no '{name}' of KubernetesPodOperator: .*'Subclasses'"):
        getattr(operator, name)
    assert not hasattr(operator, name)
    with pytest.raises(AttributeError, match=r"'PodRelayOperator' object has no attribute 'nonsense'"):
        _ = operator.nonsense


def test_a_property_that_fails_fails_by_its_own_words() -> None:
    class Mine(PodRelayOperator):
        @property
        def mine(self) -> Any:
            return self.log.nonsense

    with pytest.raises(AttributeError, match="nonsense"):
        _ = made(Mine).mine


def test_the_page_names_what_is_never_called() -> None:
    page = (Path(__file__).parents[2] / "docs" / "migrating-from-kpo.md").read_text()
    section = page.partition("## Subclasses")[2].partition("\n## ")[0]
    public = {name for name in NEVER_CALLED if not name.startswith("_")}
    assert public <= set(re.findall(r"`(\w+)`", section))
