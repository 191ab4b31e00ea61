"""What a window is: how much past, how much future, and how far from its neighbour."""

from dataclasses import dataclass

from forecast.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """Windows of `context_length` past and `horizon` future steps."""

    context_length: int
    """Past steps; where a series does not reach so far back, they are missing."""
    horizon: int
    """Future steps; where the allowed targets end before, the rest is missing."""
    min_context: int = 1
    """Steps of a series that lie before the first target, at least."""
    stride: int = 1
    """Steps between neighbouring windows."""

    def __post_init__(self) -> None:
        for name in ("context_length", "horizon", "min_context", "stride"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} is a whole number from 1 on; got {getattr(self, name)!r}.")
