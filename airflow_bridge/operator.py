"""The operator: KubernetesPodOperator's parameters and behaviour, run by a podrelay worker in the target cluster.

It makes a job of its arguments, submits it or attaches to it, follows it (itself, or deferred by a trigger), and ends
as the job ended. A try that is killed never succeeds. What ends a task, and what that does to its job, is a table in
``docs/migrating-from-kpo.md``.
"""

import sys
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowSkipException, AirflowTaskTimeout

from airflow_bridge.callbacks import CallbackPod, ExecutionMode, HookCall, JobClient, call, classes_of, import_path
from airflow_bridge.ignored_parameters import warn_of_ignored
from airflow_bridge.kpo_methods import NEVER_CALLED, warn_of_overrides, why_missing
from airflow_bridge.kubernetes_object import KubernetesObject, variables
from airflow_bridge.links import PodLogLink
from airflow_bridge.parameters import arguments_of, attributes

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from airflow_bridge.api_json import GivenObject
    from airflow_bridge.hook import PodRelayHook, ResolvedConnection
    from airflow_bridge.pod_arguments import Secret
    from airflow_bridge.task_identity import TaskIdentity
    from airflow_bridge.task_log import Line, Style
    from dispatcher.client import Dispatcher
    from dispatcher.events import JobResult
    from dispatcher.record import JobRecord
    from dispatcher.spec import JobSpec

#: The XCom that holds the job's id: for `podrelay logs <id>`, and for a task whose trigger Airflow gave up on.
JOB_ID_XCOM = "podrelay_job_id"

#: How much later than the trigger itself Airflow may end a deferred task whose execution timeout is over.
TIMEOUT_BACKSTOP_S = 60.0

_FINISH_ACTIONS = ("delete_pod", "keep_pod", "delete_succeeded_pod", "delete_active_pod")
_KILL_ACTIONS = ("delete_pod", "keep_pod")

#: The fields of Kubernetes' objects that KPO renders.
_NESTED_TEMPLATE_FIELDS = {
    "EnvVariable": ("value", "name", "value_from"),
    "V1EnvVar": ("value", "name"),
    "V1ResourceRequirements": ("limits", "requests"),
    "V1Volume": ("name", "persistent_volume_claim", "config_map"),
    "V1VolumeMount": ("name", "sub_path"),
    "V1PersistentVolumeClaimVolumeSource": ("claim_name",),
    "V1ConfigMapVolumeSource": ("name",),
    "V1EnvFromSource": ("config_map_ref",),
    "V1ConfigMapEnvSource": ("name",),
}

#: Names of containers; True: all of them.
ContainerNames = Iterable[str] | str | Literal[True]


class PodRelayOperator(BaseOperator):
    """Run a task in a pod of a cluster that podrelay's workers serve.

    Takes the parameters of ``KubernetesPodOperator`` with their meanings, and accepts with a warning those that have
    none here: :mod:`airflow_bridge.parameters` lists them all. Kubernetes' objects may be the client's ``V1…`` objects,
    or dicts in the API's form.

    Args:
        podrelay_conn_id: the connection of type ``podrelay``. (templated)
        podrelay_queue: the queue that the job goes to, which chooses cluster and workers; default: the connection's.
            ``queue`` is Airflow's own (which executor runs the task) and stays what it was. (templated)
        podrelay_options: any other field of :class:`dispatcher.spec.JobSpec`, e.g. ``{"queue_timeout_s": 600}``.
    """

    BASE_CONTAINER_NAME: ClassVar[str] = "base"

    template_fields: Sequence[str] = (
        "image",
        "name",
        "hostname",
        "cmds",
        "annotations",
        "arguments",
        "env_vars",
        "labels",
        "config_file",
        "pod_template_file",
        "pod_template_dict",
        "namespace",
        "container_resources",
        "volumes",
        "volume_mounts",
        "cluster_context",
        "env_from",
        "configmaps",
        "node_selector",
        "kubernetes_conn_id",
        "base_container_name",
        "trigger_kwargs",
        "podrelay_conn_id",
        "podrelay_queue",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"env_vars": "py"}
    operator_extra_links = (PodLogLink(),)
    ui_color = "#e8f4f2"

    def __init__(
        self,
        *,
        podrelay_conn_id: str = "podrelay_default",
        podrelay_queue: str | None = None,
        podrelay_options: Mapping[str, object] | None = None,
        kubernetes_conn_id: str | None = "kubernetes_default",
        namespace: str | None = None,
        image: str | None = None,
        name: str | None = None,
        random_name_suffix: bool = True,
        cmds: list[str] | None = None,
        arguments: list[str] | None = None,
        ports: "Sequence[GivenObject] | None" = None,
        volume_mounts: "Sequence[GivenObject] | None" = None,
        volumes: "Sequence[GivenObject] | None" = None,
        env_vars: "Sequence[GivenObject] | dict[str, str] | None" = None,
        env_from: "Sequence[GivenObject] | None" = None,
        secrets: "Sequence[Secret] | None" = None,
        in_cluster: bool | None = None,
        cluster_context: str | None = None,
        labels: Mapping[str, object] | None = None,
        reattach_on_restart: bool | None = None,
        durable: bool | None = None,
        startup_timeout_seconds: int = 120,
        startup_check_interval_seconds: int = 5,
        schedule_timeout_seconds: int | None = None,
        get_logs: bool = True,
        base_container_name: str | None = None,
        base_container_status_polling_interval: float = 1,
        init_container_logs: ContainerNames | None = None,
        container_logs: ContainerNames | None = None,
        image_pull_policy: str | None = None,
        annotations: Mapping[str, object] | None = None,
        container_resources: "GivenObject | None" = None,
        affinity: "GivenObject | None" = None,
        config_file: str | None = None,
        runtime_class_name: str | None = None,
        node_selector: dict[str, str] | None = None,
        image_pull_secrets: "Sequence[GivenObject] | str | None" = None,
        service_account_name: str | None = None,
        automount_service_account_token: bool | None = None,
        hostnetwork: bool = False,
        host_aliases: "Sequence[GivenObject] | None" = None,
        tolerations: "Sequence[GivenObject] | None" = None,
        security_context: "GivenObject | None" = None,
        container_security_context: "GivenObject | None" = None,
        xcom_sidecar_container_security_context: "GivenObject | None" = None,
        dnspolicy: str | None = None,
        dns_config: "GivenObject | None" = None,
        hostname: str | None = None,
        subdomain: str | None = None,
        schedulername: str | None = None,
        full_pod_spec: "GivenObject | None" = None,
        init_containers: "Sequence[GivenObject] | None" = None,
        log_events_on_failure: bool = False,
        log_events_on_startup: bool = True,
        do_xcom_push: bool = False,
        pod_template_file: str | None = None,
        pod_template_dict: Mapping[str, object] | None = None,
        priority_class_name: str | None = None,
        pod_runtime_info_envs: "Sequence[GivenObject] | None" = None,
        termination_grace_period: int | None = None,
        configmaps: list[str] | None = None,
        skip_on_exit_code: int | Container[int] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 2,
        log_pod_spec_on_failure: bool = True,
        on_finish_action: str = "delete_pod",
        on_kill_action: str = "delete_pod",
        is_delete_operator_pod: bool | None = None,
        termination_message_policy: str = "File",
        active_deadline_seconds: int | None = None,
        callbacks: type | Sequence[type] | None = None,
        progress_callback: Callable[[str], None] | None = None,
        logging_interval: int | None = None,
        trigger_kwargs: dict[str, object] | None = None,
        container_name_log_prefix_enabled: bool = True,
        log_formatter: Callable[[str, str], str] | None = None,
        **kwargs: Any,
    ) -> None:
        given = locals()
        warn_of_ignored(given)
        super().__init__(**kwargs)
        for parameter, value in attributes(given, templated=self.template_fields):
            setattr(self, parameter, value)
        # What is ours, what has a default or a check of its own, and what the methods below read.
        self.podrelay_conn_id = podrelay_conn_id
        self.podrelay_queue = podrelay_queue
        self.podrelay_options = podrelay_options or {}
        self.durable = _first_given(durable, reattach_on_restart, True)
        self.reattach_on_restart = self.durable
        self.deferrable = deferrable
        self.name = name
        # The class variable is read here so that a subclass may replace it, as in KPO.
        self.base_container_name = base_container_name or self.BASE_CONTAINER_NAME
        self.env_vars: Sequence[GivenObject] | dict[str, str]
        self.secrets = secrets or []
        self.schedule_timeout_seconds = schedule_timeout_seconds or None
        self.on_finish_action = _one_of("on_finish_action", on_finish_action, _FINISH_ACTIONS)
        self.on_kill_action = _one_of("on_kill_action", on_kill_action, _KILL_ACTIONS)
        self.skip_on_exit_code = _exit_codes(skip_on_exit_code)
        self.log_events_on_startup = log_events_on_startup
        self.container_name_log_prefix_enabled = container_name_log_prefix_enabled
        self.log_formatter = log_formatter
        self.callbacks = classes_of(callbacks)
        self.trigger_kwargs = trigger_kwargs
        # While it runs, under KPO's names.
        self.pod_request_obj: KubernetesObject | None = None
        self.pod: CallbackPod | None = None
        self.remote_pod: CallbackPod | None = None
        # While it runs.
        self.log_url: str | None = None
        self._connection: ResolvedConnection | None = None
        self._job_id: str | None = None
        self._asked: JobSpec | None = None  #: should the submit's answer be lost
        self._is_following = False
        self._is_killed = False
        self._has_ended = False  #: the job
        self._is_given_up = False

    @property
    def container_logs(self) -> ContainerNames | None:
        """Return what was given, or the base container, whose name is known only after rendering."""
        return self._container_logs or self.base_container_name

    @container_logs.setter
    def container_logs(self, value: ContainerNames | None) -> None:
        self._container_logs = value

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        warn_of_overrides(cls, PodRelayOperator)

    if not TYPE_CHECKING:  # else mypy would let any name pass

        def __getattr__(self, name: str) -> object:
            if name in NEVER_CALLED:
                raise AttributeError(why_missing(name))
            return super().__getattribute__(name)  # raises what it has raised before

    # Rendering

    def _do_render_template_fields(
        self,
        parent: object,
        template_fields: Iterable[str],
        context: "Context",
        jinja_env: "jinja2.Environment",
        seen_oids: set[int],
    ) -> None:
        if parent is self:
            # Airflow renders only the values of a dict, but in KPO the names are templates too.
            self.env_vars = variables(self.env_vars)
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)
        if parent is self:
            self.env_vars = variables(self.env_vars)  # what a template has made

    def _render_nested_template_fields(
        self, value: object, context: "Context", jinja_env: "jinja2.Environment", seen_oids: set[int]
    ) -> None:
        nested = _NESTED_TEMPLATE_FIELDS.get(type(value).__name__)
        if nested is None:
            super()._render_nested_template_fields(value, context, jinja_env, seen_oids)
        elif id(value) not in seen_oids:
            seen_oids.add(id(value))
            self._do_render_template_fields(value, nested, context, jinja_env, seen_oids)

    # The job

    @cached_property
    def hook(self) -> "PodRelayHook":
        """Return the hook that reads the connection."""
        from airflow_bridge.hook import PodRelayHook

        return PodRelayHook(self.podrelay_conn_id)

    def build_pod_request_obj(self, context: "Context | None" = None, *, dry_run: bool = False) -> "KubernetesObject":
        """Build the pod, for subclasses to change, as in KPO.

        It is a dict in the API's form that also answers as KPO's ``V1Pod`` does; so may what a subclass returns be, or
        a dict, or a ``V1Pod``. The worker makes the pod's name from the name here.

        Args:
            context: with it the pod has the task instance's labels.
            dry_run: KPO's; nothing here asks a cluster.
        """
        from airflow_bridge.pod_arguments import pod_of

        pod = pod_of(arguments_of(self))
        if context:
            identity = self._identity_in(context, deployment="")
            pod["metadata"]["labels"] |= identity.labels | identity.volatile_labels
        return pod

    def build_job_spec(self, manifest: object, context: "Context") -> "JobSpec":
        """Build the job spec that asks for this pod, which may be all that :meth:`build_pod_request_obj` may return."""
        from airflow_bridge.pod_arguments import job_spec

        identity, defaults = self._identity(context), self._resolved().defaults
        spec = job_spec(manifest, arguments_of(self), identity, defaults=defaults)
        trace = getattr(context["ti"], "context_carrier", None) or {}
        return spec.model_copy(update={"trace": {name: str(value) for name, value in trace.items()}})

    def dry_run(self) -> None:
        """Print the pod's manifest."""
        import yaml

        from airflow_bridge.pod_arguments import manifest_of

        print(yaml.safe_dump(manifest_of(self.build_pod_request_obj())))  # noqa: T201 - what KPO's dry run does

    def _identity(self, context: "Context") -> "TaskIdentity":
        return self._identity_in(context, deployment=self._resolved().deployment)

    def _identity_in(self, context: "Context", *, deployment: str) -> "TaskIdentity":
        from airflow import __version__

        from airflow_bridge.task_identity import TaskIdentity

        return TaskIdentity.of(context, deployment=deployment, airflow_version=__version__)

    def _resolved(self) -> "ResolvedConnection":
        if self._connection is None:
            self._connection = self.hook.resolve()
        return self._connection

    def _client(self) -> "Dispatcher":
        from dispatcher.client import Dispatcher

        return Dispatcher(self._resolved().settings)

    # Its life

    def execute(self, context: "Context") -> object:
        """Run the job, or attach to it; sync or deferred."""
        from airflow_bridge.pod_arguments import normal_name

        self.name = normal_name(self.name)
        return self.execute_async(context) if self.deferrable else self.execute_sync(context)

    def execute_sync(self, context: "Context") -> object:
        """Run the job and follow it to its end."""
        with self._leaves_no_job(context), self._client() as dispatcher:
            self._submit(dispatcher, context)
            result = self._follow(dispatcher, context)
            if self._resubmit_if_cleared(dispatcher, context, result):
                result = self._follow(dispatcher, context)
            return self._finish(dispatcher, context, result)

    def execute_async(self, context: "Context") -> object:
        """Submit the job, then defer; a job that has already ended is finished at once."""
        with self._leaves_no_job(context):
            with self._client() as dispatcher:
                self._submit(dispatcher, context)
                if dispatcher.get(self._known_job_id()).result is not None:
                    self.log.info("Not deferring: the job has already ended.")
                    result = self._follow(dispatcher, context)
                    if not self._resubmit_if_cleared(dispatcher, context, result):
                        return self._finish(dispatcher, context, result)
            self.invoke_defer_method(context=context)
        return None

    @contextmanager
    def _leaves_no_job(self, context: "Context") -> "Iterator[None]":
        """Cancel the job where an exception ends the task and no later try takes the job over.

        Whatever was raised, by the user's code or ours, goes on.
        """
        try:
            yield
        except BaseException as error:
            if not self._is_given_up:
                self._give_up(context, error)
            raise

    def _give_up(self, context: "Context", error: BaseException) -> None:
        from airflow_bridge.leaving import Leaving, cancelled_by, leaving

        ti = context["ti"]
        left_to = leaving(error, is_durable=self.durable, is_last_try=ti.try_number > (ti.max_tries or 0))
        if left_to is Leaving.THE_TRY_GOES_ON or self._is_killed or self._has_ended:
            return
        self._is_given_up = True
        if left_to is Leaving.NEXT_TRY and not self._is_refused_a_retry(context, error):
            if self._job_id is not None:
                self.log.info("Job %s goes on: the next try attaches to it.", self._job_id)
            return
        try:
            self._job_id = self._job_id or self._job_without_a_try(context, error)
            self._cancel(cancelled_by(error))
        except Exception as other:  # noqa: BLE001 - the task ends by what was raised first
            self.log.warning("Job %s could not be cancelled: %r", self._job_id, other)

    def _is_refused_a_retry(self, context: "Context", error: BaseException) -> bool:
        """Tell whether the task's retry policy, which Airflow asks for itself too, ends the task by this exception."""
        from airflow.sdk.definitions.retry_policy import RetryAction
        from airflow.sdk.exceptions import AirflowRescheduleException

        policy, ti = getattr(self, "retry_policy", None), context["ti"]
        if policy is None or isinstance(error, AirflowRescheduleException):
            return False
        try:
            decision = policy.evaluate(
                exception=error, try_number=ti.try_number, max_tries=ti.max_tries or 0, context=context
            )
        except Exception:  # noqa: BLE001 - Airflow logs it, and tries again
            return False
        return bool(decision.action is RetryAction.FAIL)

    def _job_without_a_try(self, context: "Context", error: BaseException) -> str | None:
        """Find the task's job where the try does not know it: an earlier try's, or the submit's answer was lost."""
        from dispatcher.errors import PodrelayError, RedisUnavailableError

        was_refused = isinstance(error, PodrelayError) and not isinstance(error, RedisUnavailableError)
        asked = None if was_refused else self._asked
        if asked is not None and asked.key is None:
            return asked.id
        if asked is None and not self.durable:
            return None
        queue = self._asked.queue if self._asked else self.podrelay_queue
        with self._client() as dispatcher:
            return dispatcher.find((asked and asked.key) or self._identity(context).key, queue)

    def _submit(self, dispatcher: "Dispatcher", context: "Context") -> None:
        """Submit the job, or attach to that of an earlier try."""
        from airflow_bridge.parameters import pod_mutation_hooks
        from airflow_bridge.pod_arguments import as_pod

        for plugin in pod_mutation_hooks():
            self.log.warning("The pod_mutation_hook of %s is not applied: the worker's policy decides.", plugin)
        client = JobClient(dispatcher, None)
        call(self.callbacks, "on_sync_client_creation", client=client, operator=self)
        if self.pod_request_obj is None:
            self.pod_request_obj = as_pod(self.build_pod_request_obj(context))
        self._call("on_pod_manifest_created", pod_request=self.pod_request_obj, client=client, context=context)
        spec = self.build_job_spec(self.pod_request_obj, context)
        self._submit_spec(dispatcher, context, spec)

    def _submit_spec(self, dispatcher: "Dispatcher", context: "Context", spec: "JobSpec") -> None:
        from dispatcher.steps import SubmitOutcome

        self._has_ended, self._job_id, self._asked = False, None, spec
        submitted = dispatcher.submit(spec)
        self._job_id = submitted.job_id
        self.raise_if_killed()
        context["ti"].xcom_push(key=JOB_ID_XCOM, value=submitted.job_id)
        if submitted.outcome is SubmitOutcome.ATTACHED:
            self.log.info("Attached to job %s, which an earlier try submitted.", submitted.job_id)
        else:
            self.log.info("Submitted job %s to queue %r.", submitted.job_id, spec.queue)

    def _resubmit_if_cleared(self, dispatcher: "Dispatcher", context: "Context", result: "JobResult") -> bool:
        """Submit the job again if it was cancelled because an earlier try was cleared; return whether it was."""
        from airflow_bridge.task_identity import resubmission, was_cancelled_for_an_earlier_try

        spec, identity = dispatcher.get(result.job_id).spec, self._identity(context)
        if not was_cancelled_for_an_earlier_try(result, spec, identity.try_number):
            return False
        self.log.info("Job %s was cancelled when an earlier try was cleared: this try runs it anew.", result.job_id)
        self._submit_spec(dispatcher, context, resubmission(spec, identity))
        return True

    def _follow(self, dispatcher: "Dispatcher", context: "Context") -> "JobResult":
        """Write the task's log and call hooks until the job's end; return its result."""
        from airflow_bridge.task_log import TaskLog
        from dispatcher.events import Ended

        task_log = TaskLog(self._style())
        job_id = self._known_job_id()
        client = JobClient(dispatcher, job_id)
        self._is_following = True
        try:
            self.raise_if_killed()
            for update in dispatcher.follow(job_id):
                for due in task_log.render(update):
                    self._carry_out(due, client, context)
                if isinstance(update.event, Ended):
                    return update.event.result
        finally:
            self._is_following = False
        return dispatcher.result(job_id)

    def _carry_out(self, due: "Line | HookCall", client: JobClient, context: "Context") -> None:
        from airflow_bridge.task_log import Line

        if isinstance(due, Line):
            self.log.log(due.level, due.text)
            return
        if due.pod is not None:
            self.pod = self.remote_pod = due.pod
        if due.hook == "on_pod_creation" and due.pod is not None:
            self._push_pod(context, due.pod)
        arguments = due.arguments(client=client, mode=ExecutionMode.SYNC, operator=self, context=context)
        call(self.callbacks, due.hook, **arguments)

    def _style(self) -> "Style":
        from airflow_bridge.task_log import Style

        return Style(self.container_name_log_prefix_enabled, self.log_formatter, self.log_events_on_startup)

    def _finish(self, dispatcher: "Dispatcher", context: "Context", result: "JobResult") -> object:
        """End the task as the job ended: call hooks, push XComs, acknowledge, return or raise.

        The acknowledgement comes last: it says that the result was taken, and that a later try (a clear) makes a new
        job. If the process dies before, the next try takes the same result.

        Raises:
            AirflowSkipException: the exit code says so.
            PodRelayFailure: anything but success.
        """
        from airflow_bridge.failure_text import asked_pod
        from airflow_bridge.outcome import PodRelayFailure, TaskFailure, TaskSkip, TaskSuccess, outcome_of

        self._has_ended = True
        self.log_url = result.log_url
        self.pod = self.remote_pod = pod = CallbackPod.of_result(result)
        self._push_pod(context, pod)
        hook = partial(self._call, pod=pod, client=JobClient(dispatcher, result.job_id), context=context)
        hook("on_pod_completion")
        hook("on_pod_teardown")
        arguments, multiple_outputs = arguments_of(self), self.multiple_outputs
        asked = {} if result.succeeded else asked_pod(dispatcher.get(result.job_id).spec, result)
        match outcome_of(result, arguments, multiple_outputs=multiple_outputs, manifest=asked):
            case TaskSuccess(value, lines):
                hook("on_pod_cleanup")
                self.raise_if_killed()
                dispatcher.acknowledge(result.job_id)
                self._write(lines)
                return value
            case TaskSkip(message, xcoms):
                self._push(context, xcoms)
                self._acknowledge_failure(dispatcher, result.job_id)
                raise AirflowSkipException(message)
            case TaskFailure(message, lines, xcoms):
                self._push(context, xcoms)
                self._write(lines)
                self._acknowledge_failure(dispatcher, result.job_id)
                raise PodRelayFailure(message, result)

    def _acknowledge_failure(self, dispatcher: "Dispatcher", job_id: str) -> None:
        """Acknowledge a failure, to free memory earlier: a later try makes a new job in any case."""
        from dispatcher.errors import PodrelayError

        try:
            dispatcher.acknowledge(job_id)
        except PodrelayError as error:
            self.log.debug("not acknowledged: %s", error)

    def _call(self, hook: str, **arguments: object) -> None:
        call(self.callbacks, hook, mode=ExecutionMode.SYNC, operator=self, **arguments)

    def _push_pod(self, context: "Context", pod: CallbackPod) -> None:
        """Push KPO's XComs ``pod_name`` and ``pod_namespace``."""
        if pod.metadata.name:
            context["ti"].xcom_push(key="pod_name", value=pod.metadata.name)
            context["ti"].xcom_push(key="pod_namespace", value=pod.metadata.namespace)

    def _push(self, context: "Context", xcoms: Mapping[str, object]) -> None:
        for key, value in xcoms.items():
            context["ti"].xcom_push(key=key, value=value)

    def _write(self, lines: "Iterable[Line]") -> None:
        for line in lines:
            self.log.log(line.level, line.text)

    def _known_job_id(self) -> str:
        if self._job_id is None:
            raise RuntimeError("no job was submitted")
        return self._job_id

    # Deferred

    def invoke_defer_method(self, last_log_time: object = None, context: "Context | None" = None) -> None:
        """Give up the slot; a trigger follows the job. ``last_log_time`` is KPO's, for its subclasses."""
        from airflow.sdk.serde import serialize

        from airflow_bridge.trigger import PodRelayTrigger

        context = cast("Context", context if context is not None else last_log_time)  # given alone, it comes first
        self.raise_if_killed()
        deadline_at, backstop = self._deadline(context)
        trigger = PodRelayTrigger(
            job_id=self._known_job_id(),
            podrelay_conn_id=self.podrelay_conn_id,
            reader=self._identity(context).reader,
            deadline_at=deadline_at,
            on_kill_action=self.on_kill_action,
            container_name_log_prefix_enabled=self.container_name_log_prefix_enabled,
            log_events_on_startup=self.log_events_on_startup,
            log_formatter=self._importable(self.log_formatter) if self.log_formatter else None,
            callbacks=[path for path in map(self._importable, self.callbacks) if path],
            trigger_kwargs=self.trigger_kwargs,
        )
        serialize(trigger.serialize()[1])  # Airflow does this when the job has nobody any more who could end it
        self.defer(trigger=trigger, method_name="trigger_reentry", timeout=backstop)

    def _deadline(self, context: "Context") -> tuple[float | None, timedelta | None]:
        """Return when the execution timeout is over, by Redis' clock, and after how long Airflow itself steps in."""
        if self.execution_timeout is None:
            return None, None
        ends_at = context["ti"].start_date.timestamp() + self.execution_timeout.total_seconds()
        left_s = max(0.0, ends_at - time.time())  # both are this machine's; the triggerer's clock may be another
        with self._client() as dispatcher:
            return dispatcher.now() + left_s, timedelta(seconds=left_s + TIMEOUT_BACKSTOP_S)

    def _importable(self, thing: object) -> str | None:
        path = import_path(thing)
        if path is None:
            self.log.warning("The triggerer cannot import %r: it is not called while the task is deferred.", thing)
        return path

    def trigger_reentry(self, context: "Context", event: dict[str, object]) -> object:
        """Go on after the trigger has fired: the log is written, and the result is to be taken."""
        from airflow_bridge.outcome import PodRelayFailure
        from airflow_bridge.pod_arguments import normal_name
        from airflow_bridge.trigger_event import ForeignEventError, JobTriggerEvent, JobTriggerStatus

        try:
            fired = JobTriggerEvent.decode(event)
        except ForeignEventError as error:
            raise PodRelayFailure(str(error)) from None
        self.name = normal_name(self.name)
        self._job_id = fired.job_id
        with self._client() as dispatcher:
            if fired.status is JobTriggerStatus.TIMEOUT:
                raise AirflowTaskTimeout(f"Job {fired.job_id} was cancelled: {fired.message}")
            if fired.status is JobTriggerStatus.ERROR:
                raise PodRelayFailure(f"Job {fired.job_id} cannot be followed: {fired.message}")
            record = dispatcher.get(fired.job_id)
            if record.result is None:
                raise PodRelayFailure(f"Job {fired.job_id} has no result, although its trigger fired")
            self._has_ended = True
            if not self._resubmit_if_cleared(dispatcher, context, record.result):
                pod, client = CallbackPod.of_result(record.result), JobClient(dispatcher, fired.job_id)
                self._call_late(fired.uncalled, record, pod=pod, client=client, context=context)
                self._call("on_operator_resuming", pod=pod, event=event, client=client, context=context)
                return self._finish(dispatcher, context, record.result)
        self.invoke_defer_method(context=context)
        return None

    def _call_late(self, uncalled: "Sequence[str]", record: "JobRecord", **arguments: object) -> None:
        """Call what KPO calls before it defers, of the callbacks that the triggerer could not import."""
        left_out = [one for one in self.callbacks if (path := import_path(one)) is None or path in uncalled]
        due = ["on_pod_creation"] if record.pod is not None else []
        due += ["on_pod_starting"] if record.reached_at("running") is not None else []
        for hook in due:
            call(tuple(left_out), hook, mode=ExecutionMode.SYNC, operator=self, **arguments)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: "Context") -> object:
        """Resume a deferred task, also one on whose trigger Airflow gave up (``__fail__``)."""
        from airflow_bridge.outcome import PodRelayFailure
        from airflow_bridge.trigger_event import no_such_method

        with self._leaves_no_job(context):
            if next_method == "__fail__":
                self._job_id = self._deferred_job(context)
            elif not hasattr(type(self), next_method):
                raise PodRelayFailure(str(no_such_method(next_method)))
            return super().resume_execution(next_method, next_kwargs, context)

    def _deferred_job(self, context: "Context") -> str | None:
        ti = context["ti"]
        try:
            job_id = ti.xcom_pull(task_ids=ti.task_id, key=JOB_ID_XCOM, map_indexes=ti.map_index)
        except Exception as error:  # noqa: BLE001 - the job is looked for by its key instead
            self.log.warning("The id of the task's job cannot be read from its XCom: %r", error)
            return None
        return None if job_id is None else str(job_id)

    # Kills

    def on_kill(self) -> None:
        """Cancel the job (as ``on_kill_action`` says) and fail the try: at TERM, or at the execution timeout.

        Airflow calls this within a signal handler, so it uses nothing that the interrupted code may be using: it opens
        a client of its own and writes no log.

        Raises:
            PodRelayFailure: where the job is being followed, so that the try fails at once.
        """
        self._is_killed = True
        is_timeout = isinstance(sys.exc_info()[1], AirflowTaskTimeout)
        if is_timeout:
            self._cancel("Airflow: the execution timeout is over")
        elif self.on_kill_action == "delete_pod":
            self._cancel("Airflow: the task was killed")
        if self._is_following and not is_timeout:
            self.raise_if_killed()

    def raise_if_killed(self) -> None:
        """Fail the try if it was killed.

        Raises:
            PodRelayFailure: it was.
        """
        from airflow_bridge.outcome import PodRelayFailure

        if not self._is_killed:
            return
        if self.on_kill_action == "delete_pod":
            self._cancel("Airflow: the task was killed")
            raise PodRelayFailure(f"The task was killed; job {self._job_id} is being cancelled.")
        raise PodRelayFailure(f"The task was killed; job {self._job_id} goes on (on_kill_action is keep_pod).")

    def _cancel(self, by: str) -> None:
        """Cancel the job. Where Redis cannot be reached the try fails all the same, and the next one finds the job."""
        from dispatcher.errors import PodrelayError

        if self._job_id is None:
            return
        try:
            with self._client() as dispatcher:
                dispatcher.cancel(self._job_id, by)
        except PodrelayError as error:
            if not self._is_killed:
                self.log.warning("Job %s could not be cancelled: %s", self._job_id, error)


def _first_given(*values: bool | None) -> bool:
    return next(value for value in values if value is not None)


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    text = str(getattr(value, "value", value))
    if text not in known:
        raise ValueError(f"{name}: must be one of {', '.join(known)}, got {value!r}")
    return text


def _exit_codes(given: int | Container[int] | None) -> Container[int]:
    if given is None:
        return []
    codes: Container[Any] = given if isinstance(given, Container) else [given]
    if isinstance(given, str | bytes | Mapping):  # containers too, of which no exit code is a member
        codes = [given]
    if isinstance(codes, Iterable) and not all(type(code) is int for code in codes):
        raise ValueError(f"skip_on_exit_code: must be an exit code or a list of them, not {given!r:.80}")
    return codes
