"""The `podrelay` command.

One module a command: `submit`, `logs`, `status`, `jobs` (list), `cancel` (and acknowledge), `workers`, `worker`, `dev`;
`app` lists them. Below them: `follow` (a job to its end), `screens` and `progress` (where it is shown), `words` (as
text and as JSON), `output`, `terminal_log` and `tables` (how that is written), `session` (settings, the client, errors
as exit codes), `spec_source` (file and flags), `spec_file` and `yaml_data` (the file), `exits` (exit codes), `process`
(Ctrl-C, arguments, streams).

A shell user waits for every import, so these modules import what they need when a command runs; `--help` loads typer
and nothing else.
"""

import sys


def main() -> None:
    """Entry point of the `podrelay` command."""
    from dispatcher.cli import process

    process.end_at_interrupt()
    process.forgive_streams()
    try:
        _run(process.why_no_arguments(sys.argv[1:]))
    finally:
        process.end_at_interrupt()


def _run(why_not: str | None) -> None:
    if why_not is not None:
        from dispatcher.cli.exits import ExitCode
        from dispatcher.cli.output import say

        say(why_not)
        sys.exit(ExitCode.BAD_INPUT)
    from dispatcher.cli.app import app

    app(prog_name="podrelay")
