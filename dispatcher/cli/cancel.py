"""`podrelay cancel` and `podrelay acknowledge`: what a caller says of a job after the submit."""

from typing import Annotated

import typer

from dispatcher.cli import session

_Jobs = Annotated[list[str], typer.Argument(metavar="JOB...", help="Job ids.")]


def cancel(
    jobs: _Jobs,
    wait: Annotated[bool, typer.Option("--wait", help="Return when they have ended.")] = False,
) -> None:
    """End jobs. Harmless when repeated, or when the job has ended."""
    with session.dispatcher() as client:
        from dispatcher.cli.output import write_line
        from dispatcher.steps import CancelOutcome

        said = {
            CancelOutcome.CANCELLED: "cancelled",
            CancelOutcome.REQUESTED: "cancel requested: its worker ends the pod",
            CancelOutcome.FINAL: "had ended before",
        }
        for job in jobs:
            outcome = client.cancel(job, session.me())
            write_line(f"{job}: {said[outcome]}")
        for job in jobs if wait else ():
            write_line(f"{job}: {client.result(job).status.value}")


def acknowledge(jobs: _Jobs) -> None:
    """Say that results are stored.

    The next submit of such a job's key then makes a new job.
    """
    with session.dispatcher() as client:
        from dispatcher.cli.output import write_line

        for job in jobs:
            client.acknowledge(job)
            write_line(f"{job}: acknowledged")
