"""The table of images: a name chooses which programs of this machine a container finds in its PATH.

``python:*`` finds the host's Python (the interpreter alone, without the packages of a virtualenv) and the usual tools;
``busybox:*``, ``alpine:*``, ``ubuntu:*``, ``debian:*`` find the tools and no Python; ``simulated:*`` runs no process at
all. All else cannot be pulled. ``ImageTable.add`` lets an unknown name be found later, as when a registry recovers.
"""

import hashlib
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

_HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TABLE = {
    "python": "python",
    "busybox": "shell",
    "alpine": "shell",
    "ubuntu": "shell",
    "debian": "shell",
    "simulated": "simulated",
}
#: The programs of this machine that containers find in their PATH, as far as it has them; all others they do not.
# fmt: off
_TOOLS = (
    "[", "ash", "awk", "base32", "base64", "basename", "bash", "bc", "bunzip2", "bzcat", "bzip2", "cat", "chgrp",
    "chmod", "chown", "cksum", "clear", "cmp", "comm", "cp", "cpio", "csplit", "curl", "cut", "dash", "date", "dd",
    "df", "diff", "dirname", "dos2unix", "du", "echo", "egrep", "env", "expand", "expr", "factor", "false", "fgrep",
    "find", "flock", "fmt", "fold", "free", "fuser", "getopt", "git", "grep", "groups", "gunzip", "gzip", "head",
    "hexdump", "hostid", "hostname", "iconv", "id", "install", "ionice", "jq", "join", "kill", "killall", "less",
    "link", "ln", "logger", "logname", "ls", "lsof", "lz4", "md5sum", "mkdir", "mkfifo", "mknod", "mktemp", "more",
    "mount", "mountpoint", "mv", "nc", "nice", "nl", "nohup", "nproc", "numfmt", "od", "openssl", "paste", "patch",
    "perl", "pgrep", "ping", "pkill", "printenv", "printf", "ps", "pwd", "readlink", "realpath", "renice", "reset",
    "rev", "rm", "rmdir", "sed", "seq", "setsid", "sh", "sha1sum", "sha256sum", "sha512sum", "shred", "shuf", "sleep",
    "sort", "split", "ssh", "stat", "stdbuf", "strings", "stty", "su", "sum", "sync", "tac", "tail", "tar", "tee",
    "test", "time", "timeout", "top", "touch", "tr", "true", "truncate", "tsort", "tty", "ulimit", "umount", "uname",
    "unexpand", "uniq", "unlink", "unxz", "unzip", "uptime", "users", "uuidgen", "vi", "vmstat", "watch", "wc", "wget",
    "which", "who", "whoami", "xargs", "xxd", "xz", "yes", "zcat", "zip", "zstd",
)
# fmt: on
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"^(?:(?P<host>[A-Za-z0-9][-A-Za-z0-9]*(?:\.[A-Za-z0-9-]+)*(?::[0-9]+)?)/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>[a-z0-9]+:[0-9a-f]{32,}))?$"
)


class ImageError(Exception):
    """Why a container's image cannot be used: a waiting reason and its message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the table."""

    reference: str
    kind: str

    @property
    def identity(self) -> str:
        return f"sha256:{hashlib.sha256(self.reference.encode()).hexdigest()}"

    @property
    def default_command(self) -> list[str]:
        return ["python3"] if self.kind == "python" else ["sh"]


@dataclass(slots=True)
class ImageTable:
    """Which images exist, and the directories their containers have as PATH."""

    directory: Path
    extra: dict[str, str] = field(default_factory=dict)

    def add(self, reference: str, kind: str) -> None:
        """Make a name known: ``kind`` is an image name of the table, such as ``busybox`` or ``python``."""
        self.extra[reference] = _TABLE.get(kind, kind)

    def find(self, reference: str, pull_policy: str) -> Image:
        """Return the image of that name.

        Raises:
            ImageError: ``InvalidImageName``, ``ErrImageNeverPull`` or ``ErrImagePull``.
        """
        if reference in self.extra:
            return Image(reference, self.extra[reference])
        host, path = _parse(reference)
        name = path.removeprefix("library/") if host in ("", "docker.io") else ""
        if name in _TABLE:
            return Image(_full(reference, host, path), _TABLE[name])
        if pull_policy == "Never":
            message = f'Container image "{reference}" is not present with pull policy of Never'
            raise ImageError("ErrImageNeverPull", message)
        raise ImageError("ErrImagePull", _pull_failure(reference, host, path))

    def search_path(self, image: Image) -> str:
        """Return the PATH of a container of this image."""
        tools = self._tools()
        return f"{self._python()}:{tools}" if image.kind == "python" else str(tools)

    def prepare(self) -> None:
        """Make the directories before the first container needs them."""
        self._python()
        self._tools()

    def _python(self) -> Path:
        directory = self.directory / "python"
        if not directory.exists():
            directory.mkdir(parents=True)
            interpreter = Path(sys.executable).resolve()
            for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
                (directory / name).symlink_to(interpreter)
        return directory

    def _tools(self) -> Path:
        directory = self.directory / "tools"
        if not directory.exists():
            directory.mkdir(parents=True)
            for name in _TOOLS:
                target = shutil.which(name, path=_HOST_PATH)
                if target is not None:
                    (directory / name).symlink_to(target)
        return directory


def _parse(reference: str) -> tuple[str, str]:
    first, slash, rest = reference.partition("/")
    is_host = bool(slash) and (any(mark in first for mark in ".:") or first == "localhost" or first != first.lower())
    name = (rest if is_host else reference).partition("@")[0]
    repository = name.rpartition(":")[0] or name
    parsed = _REFERENCE.match(reference)
    if parsed is None or repository != repository.lower():
        why = "invalid reference format"
        if repository != repository.lower():
            why += f": repository name ({repository}) must be lowercase"
        raise ImageError(
            "InvalidImageName",
            f'Failed to apply default image tag "{reference}": couldn\'t parse image name "{reference}": {why}',
        )
    return (first if is_host else ""), repository


def _full(reference: str, host: str, path: str) -> str:
    tail = reference[len(host) + 1 if host else 0 :][len(path) :] or ":latest"
    return f"{host or 'docker.io'}/{path if '/' in path else f'library/{path}'}{tail}"


def _pull_failure(reference: str, host: str, path: str) -> str:
    tried = reference if host else _full(reference, host, path)
    opening = f'failed to pull and unpack image "{tried}": failed to resolve reference "{tried}": '
    if host in ("", "docker.io"):
        return (
            opening + "pull access denied, repository does not exist or may require authorization: "
            "server message: insufficient_scope: authorization failed"
        )
    tag = tried.rpartition(":")[2] if ":" in tried.rpartition("/")[2] else "latest"
    url = f"https://{host}/v2/{path}/manifests/{tag}"
    return opening + f'failed to do request: Head "{url}": dial tcp: lookup {host} on 10.255.255.53:53: no such host'
