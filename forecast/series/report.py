"""What the door found in the data and what it did about it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_NAMED = 5
"""Series named in a message before it says "and N more"."""


def name_series(unique_ids: Iterable[object], *, limit: int = MAX_NAMED) -> str:
    """A short list of series for a message: `'a', 'b' and 7 more`."""
    names = [repr(str(unique_id)[:80]) for unique_id in unique_ids]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit:,} more"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found: a stable code, a sentence for people, and the series it concerns."""

    code: str
    message: str
    unique_ids: tuple[str, ...] = ()
    """The series concerned, at most `MAX_LISTED` of them; empty when all are."""
    count: int = 0
    """Rows, steps or series concerned, as the message says."""


MAX_LISTED = 1000
"""Series listed in one finding; `count` stays exact."""


@dataclass(frozen=True)
class Report:
    """All findings of one panel, in the order in which they were made."""

    findings: tuple[Finding, ...] = ()

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes found, each once, in order."""
        return tuple(dict.fromkeys(finding.code for finding in self.findings))

    def add(self, *findings: Finding) -> "Report":
        """A report with further findings at its end."""
        return Report((*self.findings, *findings))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "findings": [
                {
                    "code": finding.code,
                    "message": finding.message,
                    "unique_ids": list(finding.unique_ids),
                    "count": finding.count,
                }
                for finding in self.findings
            ]
        }

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        return "\n".join(f"{finding.code}: {finding.message}" for finding in self.findings) or "nothing found"
