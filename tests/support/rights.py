"""The Redis users that ``docs/operations.md`` tells to make, made as the page says."""

import shlex
from collections.abc import Callable, Iterator
from typing import Any

from tests.docs.pages import page

WORKER, CALLER = "podrelay-worker", "podrelay-caller"
PASSWORDS = {WORKER: "worker/pass@word", CALLER: "caller#pass?word"}


def commands() -> Iterator[list[str]]:
    """The page's commands that make the two users, as words for Redis."""
    text = page("docs/operations.md").partition("### The least rights")[2].partition("###")[0].replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("redis-cli ACL SETUSER"):
            yield shlex.split(line)[1:]


def make_users(command: Callable[..., Any], *more: str) -> None:
    """Make them, with ``more`` rules at the end."""
    users = list(commands())
    assert [words[2] for words in users] == [WORKER, CALLER]
    for words in users:
        placeholder = words[2].removeprefix("podrelay-").upper() + "-PASSWORD"
        command(*(f">{PASSWORDS[words[2]]}" if word == f">{placeholder}" else word for word in words), *more)
