"""Files that hold the wire's bytes. They are only ever added to: an old one must stay readable for ever."""

from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "golden"


def golden(name: str) -> str:
    """What the wire looked like when the file was added."""
    return (GOLDEN / name).read_text().removesuffix("\n")


def add(name: str, text: str) -> None:
    """For the author of a new wire form; refuses to change an old one."""
    with (GOLDEN / name).open("x") as file:
        file.write(text + "\n")
