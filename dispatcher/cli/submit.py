"""`podrelay submit`: ask for a job, and perhaps follow it."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from dispatcher.cli import session, spec_source
from dispatcher.cli.output import RAW_HELP

if TYPE_CHECKING:
    from dispatcher.cli.spec_file import SpecFile

_Many = list[str] | None


def submit(
    command: Annotated[_Many, typer.Argument(metavar="[-- COMMAND...]", help="What the container runs.")] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", help="Spec as YAML or JSON; - for stdin.")] = None,
    image: Annotated[str | None, typer.Option(help="Container image.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the job; its pod's name begins with it.")] = None,
    env: Annotated[_Many, typer.Option("--env", "-e", metavar="NAME=VALUE", help="Variable (repeatable).")] = None,
    env_secret: Annotated[_Many, typer.Option(metavar="NAME=SECRET/KEY", help="Variable from a secret.")] = None,
    as_args: Annotated[bool, typer.Option("--args", help="COMMAND is for the image's own entrypoint.")] = False,
    working_dir: Annotated[str | None, typer.Option(help="Working directory in the container.")] = None,
    request: Annotated[_Many, typer.Option(metavar="NAME=AMOUNT", help="Requested resource, as cpu=500m.")] = None,
    limit: Annotated[_Many, typer.Option(metavar="NAME=AMOUNT", help="Resource limit, as memory=1Gi.")] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Kubernetes namespace.")] = None,
    label: Annotated[_Many, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Pod label.")] = None,
    annotation: Annotated[_Many, typer.Option(metavar="KEY=VALUE", help="Pod annotation.")] = None,
    service_account: Annotated[str | None, typer.Option(help="Service account of the pod.")] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-q", help="Queue: which cluster.")] = None,
    priority: Annotated[str | None, typer.Option(metavar="low|normal|high", help="Whose turn is first.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: attach to its job instead of a new one.")] = None,
    job_id: Annotated[str | None, typer.Option("--id", help="Id of the job (default: random).")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Limit of the run: 90, 90s, 5m, 2h.")] = None,
    startup_timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Limit from pod to running.")] = None,
    queue_timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Limit of waiting for a pod.")] = None,
    return_value: Annotated[bool, typer.Option("--return-value", help="Read /airflow/xcom/return.json.")] = False,
    retry_on: Annotated[_Many, typer.Option(metavar="REASON", help="Try again after this failure.")] = None,
    on_finish: Annotated[str | None, typer.Option(metavar="delete_pod|keep_pod|…", help="The pod's fate.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show status and log; exit as the job does.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help=RAW_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects, one a line.")] = False,
) -> None:
    """Submit a job and print its id.

    Flags win over the file's fields. Words after -- replace the image's entrypoint.

    \b
      podrelay submit --image python:3.12 --follow -- python -c 'print("hello")'
      podrelay submit -f job.yaml --key nightly-2026-11-22
    """  # noqa: D301 -- click looks for this very character
    with session.reported_errors():
        from dispatcher.cli import spec_file

        flags = {
            "image": image,
            "name": name,
            "env": spec_source.env(env, env_secret),
            "args" if as_args else "command": command or None,
            "working_dir": working_dir,
            "resources": spec_source.resources(request, limit),
            "namespace": namespace,
            "labels": spec_source.pairs(label, "--label"),
            "annotations": spec_source.pairs(annotation, "--annotation"),
            "service_account_name": service_account,
            "queue": queue,
            "priority": priority,
            "key": key,
            "id": job_id,
            "run_timeout_s": spec_source.seconds(timeout, "--timeout"),
            "startup_timeout_s": spec_source.seconds(startup_timeout, "--startup-timeout"),
            "queue_timeout_s": spec_source.seconds(queue_timeout, "--queue-timeout"),
            "return_value": return_value or None,
            "retry_on": retry_on,
            "on_finish": on_finish,
        }
        found = spec_file.read_spec_file(file) if file else spec_file.SpecFile({}, {})
        asked = replace(found, data=spec_source.merged(found.data, flags))
        _submit(asked, source=_source(file), follow=follow, as_json=as_json, raw=raw)


def _source(file: str | None) -> str:
    return "flags" if file is None else "standard input" if file == "-" else file


def _submit(asked: "SpecFile", *, source: str, follow: bool, as_json: bool, raw: bool) -> None:
    from dispatcher.cli import screens
    from dispatcher.cli.follow import follow_to_end
    from dispatcher.errors import JobIdTakenError
    from dispatcher.spec import parse_spec

    settings = session.settings()
    data = {"queue": settings.queue, "submitted_by": session.me(), **asked.data}
    spec = parse_spec(data, source, written=asked.written)
    with session.dispatcher() as client:
        try:
            submitted = client.submit(spec)
        except JobIdTakenError as error:
            if as_json:
                screens.print_id_taken(error)
            raise
        except KeyboardInterrupt:
            session.complain(f"interrupted: job {spec.id} may have been submitted; see podrelay status {spec.id}")
            raise
        if not follow:
            screens.print_submitted(submitted, as_json=as_json)
            return
        with screens.screen(as_json=as_json, raw=raw) as screen:
            screen.submitted(submitted, spec.queue)
            code = follow_to_end(client, submitted.job_id, screen)
    raise typer.Exit(code)
