"""The command's table of contents: which function stands behind which word."""

from typing import Annotated

import typer

from dispatcher.cli import cancel, dev, exits, jobs, logs, session, status, submit, worker, workers
from dispatcher.version import VERSION

_EPILOG = "\b\nExit codes:\n" + exits.table() + f"\n\n{exits.CONTAINER_RULE}."

app = typer.Typer(
    help="Run containers on Kubernetes without holding Kubernetes credentials.",
    epilog=_EPILOG,
    no_args_is_help=True,
    # Rich help would more than double the time that `podrelay --help` takes.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"podrelay {VERSION}")
        raise typer.Exit


@app.callback()
def podrelay(
    redis_url: Annotated[str | None, typer.Option(help="Instead of PODRELAY_REDIS_URL.", show_default=False)] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Run containers on Kubernetes without holding Kubernetes credentials."""
    if redis_url is not None:
        session.override(redis_url=redis_url)


app.command("submit", epilog=_EPILOG)(submit.submit)
app.command("logs", epilog=_EPILOG)(logs.logs)
app.command("status")(status.status)
app.command("list")(jobs.list_jobs)
app.command("cancel")(cancel.cancel)
app.command("acknowledge")(cancel.acknowledge)
app.command("workers")(workers.workers)
app.command("worker", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(worker.worker)
app.command("dev")(dev.dev)
