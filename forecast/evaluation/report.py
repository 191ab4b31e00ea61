"""A backtest as one page that needs no other file: the table, the figures, and what is left out."""

import base64
import html
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from forecast.evaluation.backtest import Backtest
from forecast.evaluation.figures import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAMED = 20

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .7rem;text-align:right;"
    "border-bottom:1px solid #e5e7eb}th:first-child,td:first-child{text-align:left}img{max-width:100%}"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What people look at after a backtest."""

    result: Backtest
    title: str = "Backtest"

    def figures(self) -> "dict[str, Figure]":
        """The figures by name; SpecError where matplotlib is not installed."""
        return figures(self.result)

    def to_html(self) -> str:
        """The whole report as one HTML page with its pictures inside."""
        pictures = [
            f'<p><img alt="{name}" src="data:image/png;base64,{_png(figure)}"></p>'
            for name, figure in self.figures().items()
        ]
        title = html.escape(self.title)
        return "\n".join(
            [
                f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
                f"<style>{_STYLE}</style></head><body><h1>{title}</h1>",
                f"<p>{html.escape(self.summary())}</p>",
                self.result.table().to_html(float_format=lambda value: f"{value:.4g}", border=0),
                *(f"<p>{html.escape(line)}</p>" for line in self.left_out()),
                *pictures,
                "</body></html>\n",
            ]
        )

    def summary(self) -> str:
        """One line: what was judged, how often, how well, at which cost."""
        rows = self.result.forecasts
        windows = len(rows.drop_duplicates(["unique_id", "cutoff"]))
        told = ", ".join(
            f"{100 * each.estimate.mean:.1f} %"
            + (f" ± {100 * each.estimate.error:.1f}" if each.estimate.is_sure else "")
            + f" inside the {level:g} % interval"
            for level, each in self.result.coverage.items()
        )
        return (
            f"{self.result.name}: {windows} windows of {int(rows['step'].max())} steps, "
            f"{rows['unique_id'].nunique()} series, wql {self.result.metrics['wql']:.4g}; {told}; "
            f"{self.result.seconds:.1f} seconds."
        )

    def left_out(self) -> list[str]:
        """What the figures do not count, by name."""
        lines = []
        if in_sample := int(self.result.forecasts["in_sample"].sum()):
            lines.append(f"{in_sample} targets lie in the training data and are left out.")
        if self.result.skipped:
            lines.append(f"Too short for one cutoff or more: {_names(self.result.skipped)}.")
        if self.result.unscaled:
            lines.append(
                "Without MASE at one cutoff or more, for a history shorter than a season or "
                f"without movement: {_names(self.result.unscaled)}."
            )
        return lines


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _png(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
