"""The `podrelay` command.

One module a command: `submit`, `logs`, `status`, `jobs` (list), `cancel` (and acknowledge), `workers`, `worker`, `dev`;
`app` lists them. Below them: `follow` (a job to its end), `screens` and `progress` (where it is shown), `words` (as
text and as JSON), `output` and `tables` (how that is written), `session` (settings, the client, errors as exit codes),
`spec_source` (file and flags), `exits` (exit codes).

A shell user waits for every import, so these modules import what they need when a command runs; `--help` loads typer
and nothing else.
"""


def main() -> None:
    """Entry point of the `podrelay` command."""
    from dispatcher.cli.app import app

    app(prog_name="podrelay")
