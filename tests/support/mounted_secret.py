"""A file as Kubernetes mounts a secret."""

from pathlib import Path


class MountedSecret:
    """A mounted secret, swapped as Kubernetes does: its directory is a link that changes at once."""

    def __init__(self, root: Path, text: str) -> None:
        self._root = root
        self._count = 0
        (root / "url").symlink_to("..data/url")
        self.write(text)
        self.path = root / "url"

    def write(self, text: str | bytes) -> None:
        self._count += 1
        fresh = self._root / f"..{self._count}"
        fresh.mkdir()
        (fresh / "url").write_bytes(text if isinstance(text, bytes) else text.encode())
        (self._root / "..new").symlink_to(fresh.name)
        (self._root / "..new").rename(self._root / "..data")
