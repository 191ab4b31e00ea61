"""The flags that say how a file is written and what becomes of its findings; one set for every command."""

from typing import Annotated, Any

import typer

Columns = Annotated[
    str | None,
    typer.Option(help="Ours=theirs, such as unique_id=shop,ds=day,y=units.", metavar="OURS=THEIRS,..."),
]
DayFirst = Annotated[
    bool | None, typer.Option("--day-first/--month-first", help="Whether 03/04/2026 is in April.")
]
Delimiter = Annotated[str | None, typer.Option(help="Between the fields of a CSV file.")]
Decimal = Annotated[str | None, typer.Option(help="Decimal mark of a CSV file: . or ,")]
Wide = Annotated[bool | None, typer.Option("--wide/--long", help="Whether each series is a column.")]
Timezone = Annotated[str | None, typer.Option(help="Of stamps that name none: Europe/Berlin, ...")]
Grid = Annotated[str | None, typer.Option(help="Put jittering readings on this grid: 5min, ...")]
Duplicates = Annotated[str | None, typer.Option(help="For repeated stamps: first, last, mean, sum.")]
Gaps = Annotated[str | None, typer.Option(help="For absent steps: nan, zero, forward.")]
Infinite = Annotated[str | None, typer.Option(help="For infinite values: error, nan.")]


def given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}
