"""Reading the documentation as a test sees it: tables by their rows, fenced blocks by their language."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def rows(text: str) -> list[tuple[str, ...]]:
    """The cells of every table row but the headings."""
    found = re.findall(r"^\| (.*) \|$|^\|(---\|)+$", text, re.M)
    lines = [cells for cells, rule in found if not rule]
    return [tuple(cell.strip() for cell in line.split("|")) for line in lines]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def section(text: str, heading: str) -> str:
    """From a heading to the next one of its level or above; a `#` within a fenced block is no heading."""
    level, taken, is_fenced = len(heading.split(" ", 1)[0]), list[str](), False
    lines = text.splitlines()
    for line in lines[lines.index(heading) + 1 :]:
        is_fenced ^= line.startswith("```")
        if not is_fenced and re.match(rf"#{{1,{level}}} ", line):
            break
        taken.append(line)
    return "\n".join(taken) + "\n"
