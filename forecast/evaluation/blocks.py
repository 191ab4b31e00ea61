"""Time cut into fit | select | calibrate | judge, so that no target serves two purposes.

A cutoff is a number of steps from the end of each series: the forecaster sees what lies before, and the next
`horizon` steps are targets.

fit         weights
select      early stopping, candidates, transforms, search
calibrate   conformal scores
judge       the gate, and every published metric
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError, HorizonError, SpecError
from forecast.models.calibration import FEW_WINDOWS
from forecast.models.forecaster import named
from forecast.series.panel import Panel

SELECT_SHARE = 0.10
CALIBRATE_SHARE = 0.15
"""Of the steps before the judge block, in a long panel."""

WIDE_SHARE = 0.25
"""The same where the fit block keeps ample time beside it: a quarter has seen more weather."""

AMPLE = 60
"""Horizons, and seasons, from which on a fit block can spare a tenth of all steps."""

MAX_CUTOFFS = 250
"""At most so many cutoffs in one block: more add overlap, not knowledge."""

MAX_WINDOWS = 10_000
"""At most about so many windows (series times cutoffs) in select and in calibrate."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The cutoffs of each block, oldest first, in steps from the end of each series."""

    horizon: int
    select: tuple[int, ...]
    calibrate: tuple[int, ...]
    judge: tuple[int, ...]
    rolling_refits: bool
    """A short panel: the weights are fitted again before each block instead of once before all."""
    skipped: tuple[str, ...] = ()
    """Series too short for any judge cutoff: they are trained on and not scored."""

    @property
    def fit_until(self) -> int:
        """The steps that the fit block leaves out."""
        return self.select[0]

    @classmethod
    def cut(
        cls,
        panel: Panel,
        *,
        horizon: int,
        num_windows: int = 4,
        stride: int | None = None,
        refit: bool = False,
    ) -> "Blocks":
        """The blocks of a panel: `num_windows` judge cutoffs, `stride` steps apart (default: the horizon).

        Where the calibrate block holds 100 windows or more, constant ones included, the weights are fitted
        once, before all other blocks; otherwise, or with `refit`, again before each. DataError where even
        that does not fit, saying how many steps a series needs.
        """
        check_windows(horizon=horizon, num_windows=num_windows, stride=stride)
        judge_span = horizon + (stride or horizon) * (num_windows - 1)
        spans = _long_spans(panel, horizon=horizon, judge_span=judge_span)
        rolling = spans is None or refit
        if spans is None:
            spans = _short_spans(panel, horizon=horizon, judge_span=judge_span)
        select_span, calibrate_span = spans
        judge = range(judge_span, horizon - 1, -(stride or horizon))
        calibrate = _cutoffs(panel, judge_span, calibrate_span, horizon)
        select = _cutoffs(panel, judge_span + calibrate_span, select_span, horizon)
        scored = panel.lengths >= horizon + least_history(panel)
        return cls(
            horizon=horizon,
            select=select,
            calibrate=calibrate,
            judge=tuple(judge),
            rolling_refits=rolling,
            skipped=tuple(str(name) for name in panel.unique_ids[~scored]),
        )


def least_history(panel: Panel) -> int:
    """Steps before a cutoff without which no forecaster answers: the larger of 3 and one season."""
    return max(3, panel.season_length)


def check_windows(*, horizon: int, num_windows: int, stride: int | None) -> None:
    if horizon < 1:
        raise HorizonError(f"the horizon is {horizon}; it has to be at least 1 step")
    if num_windows < 1:
        raise SpecError(f"num_windows is {num_windows}; a backtest needs at least 1 window")
    if stride is not None and stride < 1:
        raise SpecError(f"stride is {stride}; it has to be at least 1 step")


def _fit_steps(panel: Panel, horizon: int) -> int:
    """Steps that the fit block of a series has to have: two windows' worth of history and targets."""
    return max(2 * horizon, horizon + least_history(panel))


def _long_spans(panel: Panel, *, horizon: int, judge_span: int) -> tuple[int, int] | None:
    """Steps of select and calibrate as shares of a long panel; None where they hold too few windows."""
    rest = int(np.median(panel.lengths)) - judge_span
    select = max(horizon, round(SELECT_SHARE * rest))
    calibrate = max(horizon, round(CALIBRATE_SHARE * rest))
    if rest - select - calibrate < _fit_steps(panel, horizon):
        return None
    history = panel.lengths - judge_span - horizon - least_history(panel)
    windows = np.clip(history, 0, calibrate - horizon + 1).sum()
    if windows < FEW_WINDOWS:
        return None
    wide = round(WIDE_SHARE * rest)
    ample = AMPLE * max(horizon, panel.season_length)
    return select, wide if rest - select - wide >= ample else calibrate


def _short_spans(panel: Panel, *, horizon: int, judge_span: int) -> tuple[int, int]:
    """Two horizons each for select and calibrate where the longest series has them, one where it has not."""
    longest = int(panel.lengths.max(initial=0))
    for select, calibrate in ((2, 2), (1, 2), (1, 1)):
        needed = judge_span + (select + calibrate) * horizon + _fit_steps(panel, horizon)
        if longest >= needed:
            return select * horizon, calibrate * horizon
    raise DataError(
        f"the backtest needs a series of at least {needed} steps ({judge_span} to judge, {horizon} each to "
        f"select and to calibrate, {_fit_steps(panel, horizon)} to fit) and the longest of "
        f"{named(panel.unique_ids)} has {longest}; send longer series, or lower the horizon or num_windows"
    )


def _cutoffs(panel: Panel, after: int, span: int, horizon: int) -> tuple[int, ...]:
    """Cutoffs whose targets fill the `span` steps before the last `after`, as many as are useful."""
    most = max(1, min(MAX_CUTOFFS, MAX_WINDOWS // max(len(panel), 1)))
    stride = _apart(math.ceil((span - horizon + 1) / most), panel.season_length)
    return tuple(range(after + horizon, after + span + 1, stride))[::-1]


def _apart(stride: int, season_length: int) -> int:
    """The next stride that shares no factor with the season, so that every phase is a cutoff now and then."""
    while stride > 1 and math.gcd(stride, season_length) > 1:
        stride += 1
    return stride


def spread_out(cutoffs: tuple[int, ...], most: int | None) -> list[tuple[int, ...]]:
    """Neighbouring cutoffs in at most `most` groups (None: one each), each to be served by one refit."""
    count = len(cutoffs) if most is None else min(most, len(cutoffs))
    groups: list[NDArray] = np.array_split(np.array(cutoffs), count)
    return [tuple(int(step) for step in group) for group in groups]
