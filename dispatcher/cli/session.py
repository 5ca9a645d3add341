"""What every command does around its own work: read the settings, reach Redis, and say in one line what went wrong."""

import getpass
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from dispatcher.cli.exits import ExitCode

if TYPE_CHECKING:
    from dispatcher.client import Dispatcher
    from dispatcher.settings import ClientSettings

#: Given before the command (`podrelay --redis-url …`); wins over PODRELAY_REDIS_URL.
_overrides: dict[str, Any] = {}


def override(**settings: Any) -> None:
    """Remember the flags that stand before the command."""
    _overrides.update(settings)


def settings(**flags: Any) -> "ClientSettings":
    """The settings, flags first."""
    from dispatcher.settings import ClientSettings

    return ClientSettings.from_environment(**_overrides, **flags)


def redis_url_given() -> str | None:
    """The Redis URL that somebody chose, by flag or variable; None where only the default is left."""
    found: str | None = _overrides.get("redis_url") or os.environ.get("PODRELAY_REDIS_URL")
    return found


@contextmanager
def dispatcher(**flags: Any) -> Iterator["Dispatcher"]:
    """A client; whatever podrelay raises inside ends the command with its line and its exit code."""
    with told():
        from dispatcher.client import Dispatcher

        known = settings(**flags)
        try:
            client = Dispatcher(known)
        except ValueError as error:  # redis-py's word on a URL that is none
            fail(f"PODRELAY_REDIS_URL: {known.masked_redis_url}: {error}", ExitCode.BAD_INPUT)
        with client:
            yield client


@contextmanager
def told() -> Iterator[None]:
    """Turn what podrelay raises into one line each on stderr and an exit code: never a traceback."""
    from dispatcher import errors

    try:
        yield
    except errors.InvalidSpecError as error:
        for problem in error.problems:
            complain(f"{error.source}: {problem}")
        raise typer.Exit(ExitCode.BAD_INPUT) from None
    except errors.SettingsError as error:
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
    """The reader of our output is gone (`podrelay logs … | head`): let the interpreter's last flush go nowhere."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> None:
    """One line on stderr."""
    print(f"podrelay: {text}", file=sys.stderr, flush=True)


def fail(text: str, code: ExitCode) -> NoReturn:
    """End the command with one line on stderr."""
    complain(text)
    raise typer.Exit(code) from None


def me() -> str:
    """Who asks, as records and results tell it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that /etc/passwd does not know
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
