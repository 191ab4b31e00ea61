"""What is asked of a model: one frozen value that is trained, logged and saved.

`None` means "decided by the rule of `forecast.training.defaults`"; a trained forecaster holds the spec as
resolved, with the reasons beside it.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from typing import Any

from forecast.errors import HorizonError, LevelError, SpecError
from forecast.models.catalog import BACKBONES, BASELINES

QUANTILE_LEVELS: tuple[float, ...] = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995,
)  # fmt: skip
"""The grid that networks learn; other levels are interpolated between these."""

POSITIONS = ("rotary", "learned", "sinusoidal")
POOLINGS = ("last", "attention")
DECODERS = ("direct", "parallel")
SCALINGS = ("mean_std", "last", "robust", "none")
TRANSFORMS = ("none", "log", "asinh", "relative")
RESIDUALS = ("last", "season")
MEDIANS = ("learned", "base")
LOSSES = ("pinball", "mae", "mse", "huber")
ACTIVATIONS = ("tanh", "relu")

_CHOICES = {
    "positions": POSITIONS,
    "pooling": POOLINGS,
    "decoder": DECODERS,
    "scaling": SCALINGS,
    "transform": TRANSFORMS,
    "residual": RESIDUALS,
    "median": MEDIANS,
    "loss": LOSSES,
    "activation": ACTIVATIONS,
}
_COUNTS = (
    "context_length",
    "patch_length",
    "hidden_size",
    "num_layers",
    "num_heads",
    "season_length",
    "min_context",
    "members",
    "kernel_size",
)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A forecasting model: its network (or baseline), what it sees and what it answers."""

    horizon: int
    """Steps that one pass forecasts."""
    backbone: str = "gru"
    """A name of `catalog.BACKBONES`, or of `catalog.BASELINES` for a procedure without a network."""
    context_length: int | None = None
    """Past steps that the model sees."""
    patch_length: int | None = None
    """Steps in one token; the context is padded on the left to a multiple of it."""
    hidden_size: int | None = None
    """Width of tokens and states."""
    num_layers: int | None = None
    """Depth of the backbone."""
    dropout: float | None = None
    """Share of states that training drops, in [0, 1)."""
    num_heads: int | None = None
    """Attention heads of a transformer; divides `hidden_size`."""
    positions: str | None = None
    """How a transformer knows the order of tokens: rotary, learned or sinusoidal."""
    pooling: str | None = None
    """The state that a direct decoder reads: the last one, or attention from the last over all."""
    decoder: str | None = None
    """direct: all steps from one state; parallel: position-coded future patches, each from the last state."""
    scaling: str | None = None
    """What a window is measured by: mean_std, last, robust, or none (one scale for the whole model)."""
    transform: str | None = None
    """Monotone change of units before scaling: none, log (positive data), asinh, relative (positive data)."""
    residual: str | None = None
    """What the network's output is added to: the last value, or the last season."""
    loss: str | None = None
    """pinball, mae, mse or huber; the last three shape the median, the other quantiles learn by pinball."""
    quantile_levels: tuple[float, ...] = QUANTILE_LEVELS
    """Ascending levels in (0, 1), 0.5 among them."""
    season_length: int | None = None
    """Steps in one season; None: the panel's."""
    min_context: int | None = None
    """Observed steps that a request has to bring."""
    max_horizon: int | None = None
    """Longest horizon answered by rolling the model forward; None: four times the horizon."""
    members: int | None = None
    """Networks of different seeds and look-backs, averaged quantile by quantile."""
    look_backs: tuple[int, ...] | None = None
    """Steps of the context that each member sees, one number per member; None: all of it."""
    linear: bool | None = None
    """Whether a linear map of the scaled context is added to the network's output."""
    season_map: float | None = None
    """Share of the median that a linear map by phases of the season forecasts; None: for much data with a
    season what held-out steps choose, else 0."""
    median: str | None = None
    """learned, or base (the last value or season); None: base where held-out steps show it to be chance."""
    calendar: bool | None = None
    """Whether features made from the stamps are shown to the network."""
    past: tuple[str, ...] | None = None
    """Covariates known until the cutoff; None: those of the panel."""
    known: tuple[str, ...] | None = None
    """Covariates known into the future; None: those of the panel."""
    static_numeric: tuple[str, ...] | None = None
    """Numbers that belong to a series; None: those of the panel."""
    static_categories: dict[str, tuple[str, ...]] | None = None
    """Categories that belong to a series, by covariate; None: those of the panel."""
    calendar_size: int | None = None
    """Features per stamp, given by the frequency when the spec is resolved."""
    activation: str | None = None
    """Of an Elman network: tanh or relu."""
    kernel_size: int | None = None
    """Tokens under one kernel of a dilated convolution."""
    lower_bound: float | None = None
    """No quantile is forecast below it, in units."""
    upper_bound: float | None = None
    """No quantile is forecast above it, in units."""
    integer: bool = False
    """Whether forecasts are rounded to whole numbers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantile_levels", tuple(float(q) for q in self.quantile_levels))
        for name in ("past", "known", "static_numeric"):
            if (names := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(names))
        if self.look_backs is not None:
            object.__setattr__(self, "look_backs", tuple(self.look_backs))
        if self.static_categories is not None:
            categories = {name: tuple(values) for name, values in self.static_categories.items()}
            object.__setattr__(self, "static_categories", categories)
        self._check_horizons()
        self._check_names()
        self._check_numbers()
        self._check_levels()

    @property
    def is_baseline(self) -> bool:
        """Whether this names a procedure without a network."""
        return self.backbone in BASELINES

    @property
    def num_quantiles(self) -> int:
        """How many quantiles are forecast per step."""
        return len(self.quantile_levels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` reads them back."""
        values = asdict(self)
        if self.static_categories is not None:
            values["static_categories"] = {name: list(own) for name, own in self.static_categories.items()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelSpec":
        """The spec of a dictionary; raises SpecError for keys that a spec does not have."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SpecError(f"a model spec has no {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
        return cls(**values)

    def with_(self, **changes: Any) -> "ModelSpec":
        """A copy with some fields changed."""
        return replace(self, **changes)

    def _check_horizons(self) -> None:
        if not _is_count(self.horizon):
            raise HorizonError(f"horizon is a whole number of steps from 1 on; got {self.horizon!r}.")
        if self.max_horizon is not None and not (
            _is_count(self.max_horizon) and self.max_horizon >= self.horizon
        ):
            raise HorizonError(
                f"max_horizon is a whole number not below horizon={self.horizon}; got {self.max_horizon!r}."
            )

    def _check_names(self) -> None:
        if self.backbone not in BACKBONES and self.backbone not in BASELINES:
            names = ", ".join([*BACKBONES, *BASELINES])
            raise SpecError(f"there is no backbone {self.backbone!r}; choose one of {names}.")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise SpecError(f"{name} is one of {', '.join(choices)}; got {value!r}.")

    def _check_numbers(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and not _is_count(value):
                raise SpecError(f"{name} is a whole number from 1 on; got {value!r}.")
        if self.dropout is not None and not (is_number(self.dropout) and 0 <= self.dropout < 1):
            raise SpecError(f"dropout is a share in [0, 1); got {self.dropout!r}.")
        if self.season_map is not None and not (is_number(self.season_map) and 0 <= self.season_map <= 1):
            raise SpecError(f"season_map is a share in [0, 1]; got {self.season_map!r}.")
        if self.median == "base" and self.season_map:
            raise SpecError(
                f"median='base' leaves nothing to a season map; got season_map={self.season_map}. Set one of "
                "them."
            )
        for name in ("lower_bound", "upper_bound"):
            if getattr(self, name) is not None and not is_number(getattr(self, name)):
                raise SpecError(f"{name} is a number; got {getattr(self, name)!r}.")
        if self.hidden_size and self.num_heads and self.hidden_size % self.num_heads:
            raise SpecError(f"num_heads={self.num_heads} has to divide hidden_size={self.hidden_size}.")
        if self.context_length and self.min_context and self.min_context > self.context_length:
            raise SpecError(
                f"min_context={self.min_context} is longer than context_length={self.context_length}; "
                "lower the first or raise the second."
            )
        self._check_look_backs()
        lower, upper = self.lower_bound, self.upper_bound
        if lower is not None and upper is not None and lower >= upper:
            raise SpecError(f"lower_bound={lower} has to be below upper_bound={upper}.")

    def _check_look_backs(self) -> None:
        if self.look_backs is None:
            return
        most = self.context_length or math.inf
        if len(self.look_backs) != (self.members or 1) or not all(
            _is_count(steps) and steps <= most for steps in self.look_backs
        ):
            raise SpecError(
                f"look_backs holds a number of steps for each of members={self.members or 1}, from 1 to "
                f"context_length={self.context_length}; got {self.look_backs}."
            )

    def _check_levels(self) -> None:
        levels = self.quantile_levels
        if not levels or any(not 0 < level < 1 for level in levels):
            raise LevelError(f"quantile_levels lie between 0 and 1; got {levels}.")
        if list(levels) != sorted(set(levels)) or 0.5 not in levels:
            raise LevelError(f"quantile_levels ascend without repeats and contain 0.5; got {levels}.")


def is_number(value: object) -> bool:
    """Whether this is a real number; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
