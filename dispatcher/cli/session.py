"""What every command does around its own work: read the settings, make the client, say in one line what went wrong."""

import getpass
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from dispatcher.cli import process
from dispatcher.cli.exits import ExitCode
from dispatcher.plain_text import visible

if TYPE_CHECKING:
    from dispatcher.client import Dispatcher
    from dispatcher.settings import ClientSettings

#: Given before the command (`podrelay --redis-url …`); wins over PODRELAY_REDIS_URL.
_overrides: dict[str, Any] = {}


def override(**settings: Any) -> None:
    """Remember the flags that stand before the command."""
    _overrides.update(settings)


def settings(**flags: Any) -> "ClientSettings":
    """Read the settings; flags win over variables."""
    from dispatcher.errors import SettingsError
    from dispatcher.settings import ClientSettings

    try:
        return ClientSettings.from_environment(**_overrides, **flags)
    except SettingsError as error:
        if "redis_url" not in _overrides:
            raise
        raise SettingsError(str(error).replace("PODRELAY_REDIS_URL: ", "--redis-url: ")) from None


def redis_url_given() -> str | None:
    """Return the Redis URL that was chosen by flag, variable or file; None where only the default is left."""
    known = settings()
    is_chosen = known.model_fields_set & {"redis_url", "redis_url_file"}
    return known.redis.address.url if is_chosen else None


@contextmanager
def dispatcher(**flags: Any) -> Iterator["Dispatcher"]:
    """Make a client. Whatever podrelay raises inside ends the command with one line and its exit code."""
    with reported_errors():
        from dispatcher.client import Dispatcher

        logging.basicConfig(format="podrelay: %(message)s", level=logging.WARNING)
        with Dispatcher(settings(**flags)) as client:
            process.interruptible()
            yield client


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn what podrelay raises into one line each on stderr and an exit code: never a traceback."""
    from dispatcher import errors

    try:
        yield
    except errors.InvalidSpecError as error:
        for problem in error.problems:
            complain(f"{error.source}: {problem}")
        raise typer.Exit(ExitCode.BAD_INPUT) from None
    except (errors.SettingsError, errors.JobIdTakenError) as error:
        fail(str(error), ExitCode.BAD_INPUT)
    except errors.RedisUnavailableError as error:
        fail(str(error), ExitCode.REDIS_UNAVAILABLE)
    except errors.JobUnknownError as error:
        fail(str(error), ExitCode.JOB_UNKNOWN)
    except errors.PodrelayError as error:
        fail(str(error), ExitCode.NO)
    except BrokenPipeError:
        _close_stdout()
        raise typer.Exit(ExitCode.NO) from None


def _close_stdout() -> None:
    """Let the interpreter's last flush go nowhere: whoever read our output is gone (`podrelay logs … | head`)."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """Write one line to stderr."""
    from dispatcher.cli.output import say

    say(text)


def fail(text: str, code: ExitCode) -> NoReturn:
    """End the command with one line on stderr."""
    complain(text)
    raise typer.Exit(code) from None


def need(*modules: str, extra: str) -> None:
    """End the command where a module is missing, and say what to install."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        fail(f"{', '.join(missing)} not installed: pip install 'podrelay[{extra}]'", ExitCode.BAD_INPUT)


def me() -> str:
    """Name who asks, as records and results show it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that /etc/passwd does not know
        user = str(os.getuid())
    return visible(f"{user}@{socket.gethostname()}")
