"""The decorators ``@task.podrelay`` and ``@task.podrelay_cmd``, in place of ``@task.kubernetes`` and its ``_cmd``."""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import (
    DecoratedOperator,
    TaskDecorator,
    determine_kwargs,
    task_decorator_factory,
)
from airflow.sdk.definitions.context import context_merge

from airflow_bridge import script
from airflow_bridge.argument_values import env_variables
from airflow_bridge.operator import PodRelayOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class _PodRelayDecoratedOperator(DecoratedOperator, PodRelayOperator):
    """The operator that runs a Python function in a pod whose image has Python and bash."""

    custom_operator_name = "@task.podrelay"

    # `cmds` and `arguments` are the operator's own here.
    template_fields: Sequence[str] = tuple(
        {"op_args", "op_kwargs", *PodRelayOperator.template_fields} - {"cmds", "arguments"}
    )
    shallow_copy_attrs: Sequence[str] = ("python_callable",)

    def __init__(self, namespace: str | None = None, use_dill: bool = False, **kwargs: Any) -> None:
        self.use_dill = use_dill
        name = kwargs.pop("name", f"k8s-airflow-pod-{kwargs['python_callable'].__name__}")
        super().__init__(namespace=namespace, name=name, cmds=["placeholder-command"], **kwargs)

    def execute(self, context: "Context") -> object:
        """Put function and arguments into the container's environment, then run the pod."""
        args, kwargs = list(self.op_args), dict(self.op_kwargs)
        pickling, data = script.pickled(args, kwargs, use_dill=self.use_dill)
        text = script.script_of(
            self.get_python_source(),  # type: ignore[no-untyped-call]  # Airflow's
            self.python_callable.__name__,
            pickling=pickling,
            has_arguments=bool(args or kwargs),
        )
        self.env_vars = [*env_variables("env_vars", self.env_vars), *script.variables(text, data)]
        self.cmds = script.command(returns_value=bool(self.do_xcom_push))
        return PodRelayOperator.execute(self, context)


class _PodRelayCmdDecoratedOperator(DecoratedOperator, PodRelayOperator):
    """The operator that runs the command that a Python function returns; the function runs in Airflow's worker."""

    custom_operator_name = "@task.podrelay_cmd"

    template_fields: Sequence[str] = tuple({"op_args", "op_kwargs", *PodRelayOperator.template_fields})

    overwrite_rtif_after_execution: bool = True

    def __init__(self, *, python_callable: Callable[..., object], args_only: bool = False, **kwargs: Any) -> None:
        self.args_only = args_only
        if kwargs.pop("cmds", None) is not None or kwargs.pop("arguments", None) is not None:
            warnings.warn(
                f"The `cmds` and `arguments` are unused in {self.custom_operator_name} decorator. You should return a "
                "list of commands or image entrypoint arguments with args_only=True from the python_callable.",
                UserWarning,
                stacklevel=3,
            )
        kwargs.pop("arguments", None)
        name = kwargs.pop("name", f"k8s-airflow-pod-{python_callable.__name__}")
        super().__init__(python_callable=python_callable, name=name, cmds=None, arguments=None, **kwargs)

    def execute(self, context: "Context") -> object:
        """Call the function, render the command that it returns, then run the pod."""
        self.render_template_fields(context)
        command = self._command(context)
        self.cmds, self.arguments = ([], command) if self.args_only else (command, [])
        self.render_template_fields(context)
        return PodRelayOperator.execute(self, context)

    def _command(self, context: "Context") -> list[str]:
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        command = self.python_callable(*self.op_args, **kwargs)
        name = self.python_callable.__name__
        if not isinstance(command, list):
            raise TypeError(f"Expected python_callable to return a list of strings, but got {type(command)}")
        if not all(isinstance(part, str) for part in command):
            raise TypeError(f"Expected {name} to return a list of strings, but got {command}")
        if not command:
            raise ValueError(f"The {name} returned an empty list of commands")
        return command


def podrelay_task(
    python_callable: Callable[..., object] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Run a function in a pod; takes :class:`PodRelayOperator`'s parameters, and ``use_dill``.

    Args:
        python_callable: the function.
        multiple_outputs: spread a returned dict over XComs of its keys.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_PodRelayDecoratedOperator,
        **kwargs,
    )


def podrelay_cmd_task(python_callable: Callable[..., object] | None = None, **kwargs: Any) -> TaskDecorator:
    """Run the command (a list of texts) that a function returns; takes :class:`PodRelayOperator`'s parameters.

    With ``args_only=True`` the list is the arguments of the image's entrypoint.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_PodRelayCmdDecoratedOperator, **kwargs
    )
