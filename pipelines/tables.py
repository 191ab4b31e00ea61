"""Tables on the terminal."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def print_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[str],
    essential: Collection[str] | None = None,
) -> None:
    """A table, the columns in `numbers` aligned to the right; as wide as needed in a file or pipe.

    On a terminal that is too narrow for all columns, only the `essential` ones are shown.
    """
    from rich.console import Console

    console = Console()
    table = _table(titles, rows, numbers)
    if not console.is_terminal:
        console = Console(width=200)
    elif essential is not None and Console(width=1000).measure(table).maximum > console.width:
        kept = [index for index, title in enumerate(titles) if title in essential]
        table = _table([titles[at] for at in kept], [[row[at] for at in kept] for row in rows], numbers)
    console.print(table)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if title in numbers else "left", no_wrap=index == 0)
    for row in rows:
        table.add_row(*row)
    return table


def number(value: float | None) -> str:
    """Four digits; empty where there is no value."""
    return "" if value is None else f"{value:.4g}"
