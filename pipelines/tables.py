"""Tables on the terminal."""

from collections.abc import Collection, Sequence


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[str]) -> None:
    """A table, the columns in `numbers` aligned to the right; as wide as needed in a file or pipe."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(titles):
        table.add_column(title, justify="right" if title in numbers else "left", no_wrap=index == 0)
    for row in rows:
        table.add_row(*row)
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


def number(value: float | None) -> str:
    """Four digits; empty where there is no value."""
    return "" if value is None else f"{value:.4g}"
