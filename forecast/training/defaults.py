"""The written rule that fills in what a spec leaves open, and plans the training.

Everything follows from the frequency's season length, the lengths of the series, the number of training
windows and observed targets, and the horizon; nothing from which data set it is. Each choice carries its
reason.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError, SpecError
from forecast.models.spec import ModelSpec
from forecast.series.calendar import feature_names
from forecast.series.panel import Panel
from forecast.training.config import TrainConfig

FEW_WINDOWS = 500
"""Below it every window is learned, for fixed steps: a held-out part would say less than it costs."""

LONGEST_CONTEXT = 1024
"""Steps; a season that is longer is seen twice where the series allow it."""

PATIENCE = 6
"""Checks without a better loss, of twenty, after which a training with held-out windows ends: much data is
learned in few steps, and what comes then is noise."""

SMALL = 10_000
"""Observed values below which a linear map helps, tokens are few and more is dropped."""

CLEAR_SEASON = 0.5
"""Error of the last season, as a share of that of the last value, below which much data is forecast around
it: where the season wins by less, a network that has enough to learn it from does so better."""

FEW_SERIES = 30
"""Series up to which the drifts of the past are chance: of many, a network can learn which way things go."""

FAR = (4, 30)
"""Seasons and steps from which on a horizon is far: what comes sooner depends on which way is up."""

NEAR_ZERO = 0.05
"""Lowest value, as a share of the median, below which a logarithm makes too much of what is small."""

RECURRENT = ("gru", "lstm", "elman")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rule looks at."""

    season_length: int
    horizon: int
    typical_length: int
    """Median number of steps from the first observed value on."""
    num_series: int
    num_observed: int
    positive: bool
    season_ratio: float
    """Largest over smallest mean of a season along a series, median over series."""
    low_share: float
    """Lowest value as a share of the median along a series, median over series; positive data only."""
    season_share: float
    """Error of the last season as a share of that of the last value; 1 where there is no season."""
    trading: bool

    @property
    def season_wins(self) -> bool:
        """Whether the last season forecasts better than the last value."""
        return self.season_share < 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how a network is trained."""

    num_steps: int
    schedule_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    num_held_out: int
    """Steps at the end of each series that validate; 0: none."""
    patience: int | None
    flip_share: float
    """Share of training windows that are turned upside down."""


def resolve(spec: ModelSpec, panel: Panel) -> tuple[ModelSpec, dict[str, str]]:
    """The spec with every open field filled in, and the reason for each by its name."""
    facts = look(spec, panel)
    choices = Choices(spec)
    _covariates(choices, panel)
    _windows(choices, facts)
    _shape(choices, facts)
    _look_backs(choices)
    _season_map(choices, facts)
    _reading(choices, facts)
    _check(choices.spec)
    return choices.spec, choices.reasons


class Choices:
    """A spec being filled in: what the user set stays."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.reasons: dict[str, str] = {}

    def choose(self, field: str, value: Any, reason: str) -> None:
        """Set a field that is still open."""
        if getattr(self.spec, field) is None:
            self.spec = self.spec.with_(**{field: value})
            self.reasons[field] = reason

    def __getitem__(self, field: str) -> Any:
        return getattr(self.spec, field)


def look(spec: ModelSpec, panel: Panel) -> Facts:
    """What there is to learn from."""
    lengths = panel.lengths - np.minimum(panel.first_observed, panel.lengths)
    if not (lengths > 0).any():
        raise DataError("all values of all series are missing; send series with observed values.")
    season_length = spec.season_length or panel.season_length
    sample = [panel.y(int(series)) for series in _sample(panel)]
    return Facts(
        season_length=season_length,
        horizon=spec.horizon,
        typical_length=int(np.median(lengths[lengths > 0])),
        num_series=len(panel),
        num_observed=int(panel.num_observed().sum()),
        positive=_all_positive(panel),
        season_ratio=_season_ratio(sample, season_length),
        low_share=_low_share(sample),
        season_share=_season_share(sample, season_length, spec.horizon),
        trading=panel.freq.alias == "trading",
    )


def _windows(choices: Choices, facts: Facts) -> None:
    """What the model sees of the past and how far it may be asked to look ahead."""
    season, length = facts.season_length, facts.typical_length
    choices.choose("season_length", season, "the panel's")
    context, why = _context_length(facts)
    choices.choose("context_length", context, why)
    choices.choose(
        "min_context",
        min(max(3, season), choices["context_length"], max(length // 2, 1)),
        "the larger of 3 and one season, at most the context and half a typical series",
    )
    if choices["past"]:
        choices.choose("max_horizon", facts.horizon, "the future of past covariates is unknown")
    choices.choose("max_horizon", 4 * facts.horizon, "four times the horizon")
    choices.choose("members", 1, "one network")


def _context_length(facts: Facts) -> tuple[int, str]:
    season, length, horizon = facts.season_length, facts.typical_length, facts.horizon
    wanted = max(3 * horizon, 30 * season, 48)
    room = max(3 * length // 8, season, 3)
    steps = min(wanted, room, LONGEST_CONTEXT)
    if season > 1 and steps >= season:
        steps -= steps % season
    return min(steps, max(length - 1, 1)), (
        f"whole seasons of {season}, within thirty seasons or three horizons ({wanted}), three eighths of a "
        f"typical series of {length}, and {LONGEST_CONTEXT} steps"
    )


def _shape(choices: Choices, facts: Facts) -> None:
    """Size and parts of the network."""
    backbone = choices["backbone"]
    tokens = 6 if facts.num_observed < SMALL else 15 if backbone in RECURRENT else 20
    patch = _patch_length(choices["context_length"], facts, tokens=tokens)
    choices.choose(
        "patch_length",
        patch,
        f"{-(-choices['context_length'] // patch)} tokens; a divisor or multiple of a season",
    )
    heads = choices["num_heads"] or 4
    width = 1.5 * facts.num_observed**0.4 * (1.0 if backbone in RECURRENT else 0.5)
    unit = max(8, heads) if backbone == "transformer" else 8
    hidden = unit * round(min(max(width, 16), 256) / unit)
    choices.choose("hidden_size", hidden, f"parameters bounded by {facts.num_observed:,} observed values")
    choices.choose("num_layers", 1 if backbone in RECURRENT else 2, "shallow and wide learns as well, faster")
    choices.choose(
        "dropout", 0.2 if facts.num_observed < SMALL else 0.1, "more where there is less to learn from"
    )
    if backbone == "transformer":
        choices.choose("num_heads", heads, "four views of the context")
        choices.choose("positions", "rotary", "distances between tokens rather than their places")
    if backbone == "elman":
        choices.choose("activation", "tanh", "bounded states")
    if backbone == "conv":
        choices.choose("kernel_size", 3, "the smallest with a neighbour on either side of a gap")
    choices.choose("decoder", "parallel", "position-coded future patches, each from the newest state")
    choices.choose("pooling", "last", "the newest state has seen everything")
    if facts.num_observed < SMALL:
        choices.choose("loss", "pinball", "all quantiles teach where there is little to learn from")
    else:
        choices.choose("loss", "mae", "the median learns by its own error; the intervals follow it")
    choices.choose(
        "linear",
        facts.num_observed < SMALL and facts.season_wins,
        "a linear map carries what little data can teach of a season; without one it learns noise",
    )


def _season_map(choices: Choices, facts: Facts) -> None:
    """Left open for held-out steps to choose where a map of the season may help, and none elsewhere."""
    seasons = choices["context_length"] // facts.season_length
    useful = facts.season_length > 1 and seasons > 1 and facts.season_wins and facts.num_observed >= SMALL
    if not useful:
        choices.choose("season_map", 0.0, "little data, or no season that wins over the last value")


def _look_backs(choices: Choices) -> None:
    """Every second member sees the newer half of the context, where that holds a season and a request."""
    members, context_length = choices["members"], choices["context_length"]
    patch = choices["patch_length"]
    half = -(-context_length // (2 * patch)) * patch
    if members == 1 or half >= context_length or half < max(choices["min_context"], choices["season_length"]):
        return
    look_backs = tuple(half if member % 2 else context_length for member in range(members))
    choices.choose("look_backs", look_backs, "members differ in what they see, every second by half")


def _patch_length(context_length: int, facts: Facts, *, tokens: int) -> int:
    season, horizon = facts.season_length, facts.horizon
    if context_length < 12:
        return 1
    divisors = [n for n in range(1, season + 1) if season % n == 0]
    multiples = [season * n for n in range(2, 9)] if season > 1 else list(range(2, 65))
    candidates = [n for n in (*divisors, *multiples) if n <= max(horizon, season)]
    return min(candidates, key=lambda n: abs(math.log(context_length / n / tokens)))


def _reading(choices: Choices, facts: Facts) -> None:
    """How values are transformed and scaled, and what the output is added to."""
    if facts.trading and facts.positive:
        choices.choose("transform", "relative", "prices: returns matter, not levels")
    elif facts.positive and facts.season_ratio > 2:
        choices.choose("transform", "log", f"positive, and seasons grow {facts.season_ratio:.1f} times")
    elif facts.positive and not facts.season_wins:
        choices.choose("transform", "log", "positive and without a season: steps are shares of the level")
    elif facts.positive and facts.num_observed >= SMALL and facts.low_share >= NEAR_ZERO:
        choices.choose(
            "transform", "log", "positive and not near zero: much data teaches shares of the level"
        )
    else:
        choices.choose(
            "transform", "none", "values may be negative, or their swing does not grow with the level"
        )
    choices.choose("scaling", "mean_std", "each window by its own mean and deviation")
    fits = facts.season_length > 1 and choices["context_length"] >= facts.season_length
    most = 1.0 if facts.num_observed < SMALL else CLEAR_SEASON
    told = f"the last season errs {facts.season_share:.2f} times as much as the last value"
    if facts.season_share < most and fits and not facts.trading:
        choices.choose("residual", "season", told)
    else:
        choices.choose("residual", "last", f"{told}; a season is repeated below {most:g}, where it fits")


def _covariates(choices: Choices, panel: Panel) -> None:
    choices.choose("past", panel.past.names, "the panel's")
    choices.choose("known", panel.known.names, "the panel's")
    choices.choose("static_numeric", panel.static.numeric_names, "the panel's")
    categories = dict(zip(panel.static.categorical_names, panel.static.categories, strict=True))
    choices.choose("static_categories", categories, "the panel's")
    choices.choose("calendar", False, "seasons are read from the values")
    size = 2 * len(feature_names(panel.freq)) if choices["calendar"] else 0
    choices.choose("calendar_size", size, "a sine and a cosine per cycle of the frequency")


def _check(spec: ModelSpec) -> None:
    context_length, season_length = spec.context_length or 1, spec.season_length or 1
    if spec.season_map and not 1 < season_length <= context_length:
        raise SpecError(
            f"season_map={spec.season_map:g} needs a season within the context; season_length="
            f"{season_length}, context_length={context_length}. Leave it out, or set it to 0."
        )
    if spec.residual == "season" and context_length < season_length:
        raise SpecError(
            f"residual='season' needs a whole season in the context; context_length={context_length} is "
            f"shorter "
            f"than season_length={season_length}."
        )


def plan(
    config: TrainConfig,
    *,
    spec: ModelSpec,
    num_windows: int,
    lengths: NDArray[np.int64],
    below_zero: bool = False,
) -> Plan:
    """How to train: steps, batch, rate and what is held out, by the number of training windows.

    `below_zero` tells whether most series go there.
    """
    few = num_windows < FEW_WINDOWS
    batch_size = config.batch_size or (
        64 if num_windows < 10_000 else 256 if num_windows < 1_000_000 else 512
    )
    steps = 200 if few else 600 if num_windows < 10_000 else _num_steps(num_series=len(lengths))
    by_rule = config.max_steps is None and config.max_epochs is None
    if config.max_steps is not None:
        steps = config.max_steps
    length = int(np.median(lengths))
    return Plan(
        num_steps=steps,
        schedule_steps=config.schedule_steps or steps,
        batch_size=batch_size,
        learning_rate=config.learning_rate or (1e-3 if few else 2e-3),
        weight_decay=0.1 if config.weight_decay is None and few else config.weight_decay or 0.01,
        num_held_out=0 if few else min(max(spec.horizon, length // 10), length // 2),
        patience=config.patience or (PATIENCE if by_rule else None),
        flip_share=_flip_share(config, spec, lengths=lengths, below_zero=below_zero),
    )


def goes_below_zero(panel: Panel) -> bool:
    """Whether most series take values below zero."""
    return bool(np.mean(panel.lowest() < 0) > 0.5)  # NaN, nothing observed, is not below


def _flip_share(
    config: TrainConfig, spec: ModelSpec, *, lengths: NDArray[np.int64], below_zero: bool
) -> float:
    """For far horizons, half of the windows of few long series are learned upside down: their drifts are not.

    Covariates cannot be turned with the values, what is read in logarithms or around a level of its own
    means another thing upside down, and values with a floor at zero are not spread alike to both sides.
    """
    turnable = spec.transform == "none" and spec.scaling != "none"
    if config.flip_share is not None:
        if config.flip_share and not turnable:
            raise SpecError(
                f"flip_share needs transform='none' and windows that are scaled by themselves; got "
                f"flip_share={config.flip_share:g} with transform={spec.transform!r} and "
                f"scaling={spec.scaling!r}. Leave it out, or set it to 0."
            )
        return config.flip_share
    explained = bool(
        spec.past or spec.known or spec.calendar or spec.static_numeric or spec.static_categories
    )
    far = spec.horizon >= max(FAR[0] * (spec.season_length or 1), FAR[1])
    learns_drift = len(lengths) > FEW_SERIES or lengths.sum() < SMALL
    return 0.5 if far and turnable and below_zero and not explained and not learns_drift else 0.0


def _num_steps(*, num_series: int) -> int:
    """Steps for much data: 250 times the root of the number of series, at least 400 and at most 5,000.

    What one long series has to teach is learned in a few hundred steps; many differ, and take longer.
    """
    return round(min(max(250 * math.sqrt(num_series), 400), 5_000))


def in_epochs(planned: Plan, config: TrainConfig, *, num_windows: int) -> Plan:
    """The plan with the user's epochs, if any, in steps: passes over `num_windows` each."""
    if config.max_epochs is None:
        return planned
    steps = config.max_epochs * -(-num_windows // planned.batch_size)
    steps = steps if config.max_steps is None else min(steps, config.max_steps)
    return replace(planned, num_steps=steps, schedule_steps=config.schedule_steps or steps)


def _sample(panel: Panel, most: int = 200) -> NDArray[np.int64]:
    """At most so many series, spread evenly, that have something observed."""
    usable = np.flatnonzero(panel.first_observed < panel.lengths)
    return usable[np.linspace(0, len(usable) - 1, min(most, len(usable))).astype(np.int64)]


def _all_positive(panel: Panel) -> bool:
    lowest = panel.lowest()
    return bool((lowest[~np.isnan(lowest)] > 0).all())


def _season_ratio(sample: list[NDArray[np.float64]], season_length: int) -> float:
    """Median over series of how many times a season's mean grows along it, 90th over 10th percentile."""
    ratios = []
    for y in sample:
        size = season_length if season_length > 1 else 12
        count = len(y) // size
        if count < 3:
            continue
        seasons = y[len(y) - count * size :].reshape(count, size)
        means = seasons.mean(axis=1)
        usable = means[np.isfinite(means)]
        if len(usable) >= 3 and (usable > 0).all():
            low, high = np.quantile(usable, [0.1, 0.9])
            ratios.append(high / low)
    return float(np.median(ratios)) if ratios else 1.0


def _low_share(sample: list[NDArray[np.float64]]) -> float:
    """Median over series of the lowest value over the median one."""
    middles = [np.nanmedian(y) for y in sample]
    shares = [np.nanmin(y) / middle for y, middle in zip(sample, middles, strict=True) if middle > 0]
    return float(np.median(shares)) if shares else 0.0


def _season_share(sample: list[NDArray[np.float64]], season_length: int, horizon: int) -> float:
    """Error of repeating the season over that of repeating the value, over one horizon, in scales."""
    if season_length < 2:
        return 1.0
    by_season, by_value = 0.0, 0.0
    for y in sample:
        if len(y) < 2 * season_length:
            continue
        scale = float(np.nanmean(np.abs(np.diff(y)))) if np.isfinite(np.diff(y)).any() else 0.0
        if not scale > 0:
            continue
        steps = range(1, min(horizon, season_length) + 1, max(1, season_length // 12))
        with np.errstate(invalid="ignore"):
            value = [np.abs(y[season_length:] - y[season_length - k : len(y) - k]) for k in steps]
            season = np.abs(y[season_length:] - y[:-season_length])
        if np.isfinite(season).any():
            by_season += float(np.nanmean(season)) / scale
            by_value += float(np.nanmean(np.stack(value))) / scale
    return by_season / by_value if by_value > 0 else 1.0
