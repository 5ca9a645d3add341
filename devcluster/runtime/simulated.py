"""Simulated containers, for load: no process, but lines at a rate, then an end.

An image named ``simulated:*`` reads its arguments (``command`` and ``args`` alike) as options ``--name=value``:

    --lines=N          lines to write to stdout (0); a line is ``<name> <number> xxxx…``
    --rate=R           lines a second (0: all at once)
    --line-bytes=B     length of a line with its newline (80)
    --duration=S       seconds until the end, counted from the start (0: when the last line is written)
    --exit-code=N      how it ends (0)
    --ignore-term      TERM does nothing; without it TERM ends the container at once with 143
    --term-exit-code=N how it ends after TERM (143)
    --return-value=J   text written to /airflow/xcom/return.json at the end, if something is mounted there
    --same-timestamps=N  so many lines in a row bear one timestamp (1)
    --print-on-term=PATH  on TERM write this file to stdout and end with 0, as a return value sidecar does

A plain ``simulated:latest`` ends at once with 0. Many thousands run side by side: each is one timer.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster.runtime.logs import LogFile
from devcluster.runtime.mounts import Mounts
from devcluster.runtime.process import ContainerConfig, Exit, StartError

RETURN_VALUE_PATH = "/airflow/xcom/return.json"
_TICK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a simulated container does."""

    lines: int = 0
    rate: float = 0.0
    line_bytes: int = 80
    duration_s: float = 0.0
    exit_code: int = 0
    ignore_term: bool = False
    term_exit_code: int = 143
    return_value: str | None = None
    same_timestamps: int = 1
    print_on_term: str | None = None


_NAMES = {
    "lines": int,
    "rate": float,
    "line-bytes": int,
    "duration": float,
    "exit-code": int,
    "term-exit-code": int,
    "return-value": str,
    "same-timestamps": int,
    "print-on-term": str,
}


def parse_script(arguments: Sequence[str]) -> Script:
    """Read the options.

    Raises:
        StartError: there is no such option, or it has no such value.
    """
    found: dict[str, object] = {}
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if name == "ignore-term":
            found["ignore_term"] = value != "false"
        elif name in _NAMES:
            key = "duration_s" if name == "duration" else name.replace("-", "_")
            try:
                found[key] = _NAMES[name](value)
            except ValueError as error:
                raise StartError(f"simulated container: {argument!r}: {error}") from error
        else:
            raise StartError(f"simulated container: no option {argument!r}; known: {', '.join(_NAMES)}, ignore-term")
    return Script(**found)  # type: ignore[arg-type]  # each value was read with the type of its name


class SimulatedContainer:
    """One running simulation."""

    def __init__(self, name: str, config: ContainerConfig, log: LogFile, mounts: Mounts) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Exit] = self._loop.create_future()
        self._name = name.encode()
        self._script = parse_script(config.command)
        self._log = log
        self._mounts = mounts
        self._began_at = self._loop.time()
        self._done = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop.call_soon(self._work)

    def terminate(self) -> None:
        script = self._script
        if self.ended.done() or script.ignore_term:
            return
        if script.print_on_term is not None:
            path = Path(script.print_on_term)
            if path.exists():
                self._log.append("stdout", path.read_bytes())
            self._end(Exit.of(0))
        else:
            self._end(Exit.of(script.term_exit_code))

    def kill(self) -> None:
        if not self.ended.done():
            self._end(Exit.of(137))

    def _work(self) -> None:
        self._timer = None
        if self.ended.done():
            return
        script = self._script
        elapsed = self._loop.time() - self._began_at
        due = script.lines if script.rate <= 0 else min(script.lines, int(elapsed * script.rate) + 1)
        if due > self._done:
            self._write(due - self._done)
        if self._done < script.lines:
            self._timer = self._loop.call_later(max(_TICK_S, 1 / script.rate), self._work)
        elif elapsed < script.duration_s:
            self._timer = self._loop.call_later(script.duration_s - elapsed + 0.001, self._work)
        else:
            self._finish()

    def _write(self, count: int) -> None:
        numbers = range(self._done, self._done + count)
        self._done += count
        lines = [self._line(number) for number in numbers]
        together = self._script.same_timestamps
        if together <= 1:
            self._log.append("stdout", b"".join(line + b"\n" for line in lines))
            return
        for start in range(0, count, together):
            self._log.append_at_once("stdout", lines[start : start + together])

    def _line(self, number: int) -> bytes:
        return (b"%s %d " % (self._name, number)).ljust(self._script.line_bytes - 1, b"x")

    def _finish(self) -> None:
        path = self._mounted(RETURN_VALUE_PATH) if self._script.return_value is not None else None
        if path is not None and self._script.return_value is not None:
            path.write_text(self._script.return_value)
        self._end(Exit.of(self._script.exit_code))

    def _mounted(self, path: str) -> Path | None:
        real = self._mounts.rewrite(path)
        return Path(real) if real != path else None

    def _end(self, exit_: Exit) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._log.end_of_stream()
        self.ended.set_result(exit_)
