"""Rows for a person: a table on a terminal, plain columns for a pipe."""

import sys
from collections.abc import Sequence

from dispatcher.cli.output import write_line
from dispatcher.plain_text import visible


def show(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows. Piped, nothing is cut, and no cell is empty, so that `awk` finds its column."""
    if sys.stdout.isatty():
        _show_rich(columns, rows)
        return
    table = [columns, *([visible(cell.replace("\n", " ")) or "-" for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _show_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, overflow="fold" if i == 0 else "ellipsis")
    for row in rows:
        table.add_row(*(Text(visible(cell.replace("\n", " "))) for cell in row))
    Console(highlight=False).print(table)
