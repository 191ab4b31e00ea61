"""Training and validation windows that share no target.

N series
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from forecast.windows.index import WindowIndex, training_windows, whole_windows
from forecast.windows.spec import WindowSpec

MAX_VALIDATION_WINDOWS = 4096
"""More say little more and cost time at every check; the stride grows until no more are left."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Windows to learn from, and windows whose targets all come later."""

    training: WindowIndex
    validation: WindowIndex

    @property
    def held_out(self) -> NDArray[np.int64]:
        """(N,) steps at the end of each series that are no training target."""
        return self.validation.limits - self.training.limits


def split(
    spec: WindowSpec,
    *,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    num_held_out: int,
) -> Split:
    """Hold back the last `num_held_out` steps of every series as validation targets; 0 holds back none.

    `starts` and `lengths` (N,) are the first observed steps and the numbers of steps. A series that would
    keep no training window is not split: all of it is learned. Validation contexts reach back into training
    data.
    """
    limits = lengths - num_held_out
    whole = (num_held_out < spec.horizon) | (limits - starts - spec.min_context < 1)
    limits = np.where(whole, lengths, limits)
    training = training_windows(spec, starts=starts, limits=limits)
    origins = np.where(whole, lengths + 1, limits)
    validation = whole_windows(spec, starts=starts, origins=origins, limits=lengths)
    stride = -(-validation.num_windows // MAX_VALIDATION_WINDOWS)
    if stride > 1:
        sparse = replace(spec, stride=stride)
        validation = whole_windows(sparse, starts=starts, origins=origins, limits=lengths)
    return Split(training=training, validation=validation)
