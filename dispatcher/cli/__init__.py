"""The `podrelay` command: one module per noun.

A shell user waits for every import, so these modules import what they need when a command runs; `--help` loads typer
and nothing else.
"""


def main() -> None:
    """Entry point of the `podrelay` command."""
    from dispatcher.cli.app import app

    app(prog_name="podrelay")
