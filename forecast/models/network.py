"""The one forecaster network: window -> tokens -> backbone -> head -> quantiles in units.

B windows, L context_length, H horizon, Q quantile levels, P / K past / known covariates, F calendar features,
S / C static numeric / categorical covariates, D hidden_size
"""

from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from forecast.models.catalog import backbone_class
from forecast.models.heads import QuantileHead
from forecast.models.season_map import SeasonMap
from forecast.models.spec import ModelSpec
from forecast.models.tokens import Tokens, patches
from forecast.windows.scaling import Scale, apply_scale, fit_scale
from forecast.windows.transforms import Reference, difference, position, reference, step

LARGEST = 3.0e38
"""Context values of this size and beyond count as missing."""


class Covariates(NamedTuple):
    """What is known beside the values, each None where the spec names none; NaN where missing."""

    past: Float[Tensor, "B P L"] | None = None
    known: Float[Tensor, "B K L+H"] | None = None
    static_numeric: Float[Tensor, "B S"] | None = None
    static_categorical: Int[Tensor, "B C"] | None = None
    calendar: Float[Tensor, "B F L+H"] | None = None

    def newest(self, steps: int, *, horizon: int) -> "Covariates":
        """The same without what lies further back than `steps` of the context."""
        return self._replace(
            past=None if self.past is None else self.past[:, :, -steps:],
            known=None if self.known is None else self.known[:, :, -steps - horizon :],
            calendar=None if self.calendar is None else self.calendar[:, :, -steps - horizon :],
        )


class Window(NamedTuple):
    """A context as the network reads it."""

    scores: Float[Tensor, "B L"]
    """Transformed and scaled values, zero where missing."""
    observed: Bool[Tensor, "B L"]
    reference: Reference
    scale: Scale
    base: Float[Tensor, "B H"]
    """What the network's output is added to, relative to the level."""


class ForecastNetwork(nn.Module):
    """One or several member networks around the same reading of a window.

    Untrained, its median is the last value or the last season, exactly.
    """

    fixed_center: Tensor
    fixed_size: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        look_backs = spec.look_backs or (spec.context_length,) * (spec.members or 1)
        self.members = nn.ModuleList(Member(spec, look_back=steps or 1) for steps in look_backs)
        self.middle = spec.quantile_levels.index(0.5)
        self.season_map = SeasonMap(spec) if spec.season_map else None
        self.register_buffer("fixed_center", torch.zeros(()))
        self.register_buffer("fixed_size", torch.ones(()))

    def forward(
        self,
        context: Float[Tensor, "B L"],
        level: Float[Tensor, " B"],
        covariates: Covariates = Covariates(),  # noqa: B008  (a constant)
    ) -> Float[Tensor, "B H Q"]:
        """Quantiles relative to `level`, in units, ascending along Q; `context` likewise, NaN missing."""
        window = self.read(context, level)
        scores = self.averaged(window, covariates)
        if self.season_map is not None:
            scores = self.mixed(window, scores, self.season_map, share=self.spec.season_map or 0.0)
        return self.units(window, scores)

    def read(self, context: Float[Tensor, "B L"], level: Float[Tensor, " B"]) -> Window:
        """Transform and scale a context by itself alone."""
        observed = context.abs() < LARGEST  # false for NaN
        filled = torch.where(observed, context, torch.zeros_like(context))
        at = reference(filled, level, observed)
        transform = self.spec.transform or "none"
        z = difference(transform, filled, at.last, at) * observed
        scale = self._scale(z, observed, at, transform)
        return Window(
            scores=apply_scale(z, observed, scale),
            observed=observed,
            reference=at,
            scale=scale,
            base=self._base(filled, observed, at),
        )

    @torch.no_grad()
    def forget_median(self) -> None:
        """Make the median the base, as if untrained; the other quantiles keep their distances from it."""
        for member in self.members:
            cast(Member, member).forget_median()

    def averaged(self, window: Window, covariates: Covariates) -> Float[Tensor, "B H Q"]:
        """The members' quantiles, averaged level by level."""
        scores = self.scores(window, 0, covariates)
        for member in range(1, len(self.members)):
            scores = scores + self.scores(window, member, covariates)
        return scores / len(self.members)

    def mixed(
        self, window: Window, scores: Float[Tensor, "B H Q"], season_map: SeasonMap, *, share: float
    ) -> Float[Tensor, "B H Q"]:
        """Quantiles moved by `share` of the way from their median to the map's, less where it sees less."""
        ahead = season_map(window.scores, window.observed)
        way = share * season_map.seen(window.observed) * (ahead - scores[..., self.middle])
        return cast(Tensor, scores + way[..., None])

    def scores(self, window: Window, member: int, covariates: Covariates) -> Float[Tensor, "B H Q"]:
        """One member's quantiles in units of the window's scale, around the base."""
        return cast(Tensor, self.members[member](window.scores, window.observed, covariates))

    def units(self, window: Window, scores: Float[Tensor, "B H Q"]) -> Float[Tensor, "B H Q"]:
        """Scores as values relative to the level."""
        delta = scores * window.scale.size[:, :, None]
        return step(self.spec.transform or "none", window.base[:, :, None], delta, window.reference)

    def target(self, window: Window, future: Float[Tensor, "B H"]) -> Float[Tensor, "B H"]:
        """Future values, relative to the level, as scores around the base: the inverse of `units`."""
        size = torch.where(window.scale.size > 0, window.scale.size, torch.ones_like(window.scale.size))
        return difference(self.spec.transform or "none", future, window.base, window.reference) / size

    def _scale(self, z: Tensor, observed: Tensor, at: Reference, transform: str) -> Scale:
        if self.spec.scaling == "none":
            center = self.fixed_center - position(transform, at)
            return Scale(center=center, size=self.fixed_size.expand_as(center))
        level = torch.ones_like(at.last) if transform != "none" else at.level + at.last
        return fit_scale(self.spec.scaling or "mean_std", z, observed, level=level)

    def _base(self, context: Tensor, observed: Tensor, at: Reference) -> Tensor:
        if self.spec.residual == "season":
            return last_season(
                context,
                observed,
                at.last,
                season_length=self.spec.season_length or 1,
                horizon=self.spec.horizon,
            )
        return at.last.expand(-1, self.spec.horizon)


class Member(nn.Module):
    """Tokens, backbone and head: scores of a context in, scores of quantiles out.

    Of a context it sees the newest `look_back` steps.
    """

    past_center: Tensor
    past_size: Tensor
    known_center: Tensor
    known_size: Tensor
    static_center: Tensor
    static_size: Tensor

    def __init__(self, spec: ModelSpec, *, look_back: int) -> None:
        super().__init__()
        self.look_back = look_back
        self.spec = spec = spec.with_(context_length=look_back, look_backs=None)
        self.patch_length = spec.patch_length or 1
        self.parallel = spec.decoder == "parallel"
        hidden_size = spec.hidden_size or 32
        backbone = backbone_class(spec.backbone)
        num_past, num_known = len(spec.past or ()), len(spec.known or ())
        self.num_calendar = (spec.calendar_size or 0) if spec.calendar else 0
        self.num_future = num_known + (self.num_calendar + 1 if self.num_calendar else 0)
        bare = backbone.takes_patches and self.patch_length == 1 and not self.parallel
        self.tokens = Tokens(
            num_channels=2 + num_past + self.num_future,
            patch_length=self.patch_length,
            hidden_size=hidden_size,
            linear=not bare,
        )
        self.backbone = backbone(spec, token_size=self.tokens.token_size)
        self._add_covariates(spec, num_past=num_past, num_known=num_known)
        self._add_future(spec, hidden_size)
        self.dropout = nn.Dropout(spec.dropout or 0.0)
        self.pool = AttentionPooling(hidden_size) if spec.pooling == "attention" else None
        self.head = QuantileHead(
            hidden_size=hidden_size,
            num_steps=self.patch_length if self.parallel else spec.horizon,
            quantile_levels=spec.quantile_levels,
        )
        self.linear = _zero(nn.Linear(spec.context_length or 1, spec.horizon)) if spec.linear else None

    def forward(
        self,
        scores: Float[Tensor, "B L"],
        observed: Bool[Tensor, "B L"],
        covariates: Covariates,
    ) -> Float[Tensor, "B H Q"]:
        if self.look_back < scores.shape[1]:
            scores, observed = scores[:, -self.look_back :], observed[:, -self.look_back :]
            covariates = covariates.newest(self.look_back, horizon=self.spec.horizon)
        future = self._future(scores, covariates)  # (B, channels, L + H), or None
        tokens = self.tokens(self._channels(scores, observed, future, covariates))
        static = self._static(covariates)
        if static is not None:
            tokens = tokens + static[:, None]
        states = self._decode(tokens, future, static) if self.parallel else self._read(tokens, future)
        detached = self.spec.loss not in (None, "pinball")
        quantiles = self.head(self.dropout(states), detach_widths=detached)[:, : self.spec.horizon]
        if self.linear is not None:
            quantiles = quantiles + self.linear(scores)[..., None]
        return cast(Tensor, quantiles)

    def forget_median(self) -> None:
        """Back to a median of zero, whatever the states are."""
        self.head.median = _zero(self.head.median)
        if self.linear is not None:
            self.linear = _zero(self.linear)

    def _decode(self, tokens: Tensor, future: Tensor | None, static: Tensor | None) -> Tensor:
        """(B, M, D): one state per future patch."""
        queries = self.positions.expand(tokens.shape[0], -1, -1)
        if future is not None:
            steps = F.pad(future[:, :, -self.spec.horizon :], (0, self.num_steps - self.spec.horizon))
            queries = queries + self.look_ahead(patches(steps, self.patch_length))
        if static is not None:
            queries = queries + static[:, None]
        return cast(Tensor, self.backbone.decode(tokens, queries))

    def _read(self, tokens: Tensor, future: Tensor | None) -> Tensor:
        """(B, 1, D): one state of the whole context."""
        states = self.backbone(tokens)
        state = states[:, -1:] if self.pool is None else self.pool(states)
        if future is not None:
            state = state + self.look_ahead(future[:, None, :, -self.spec.horizon :].flatten(2))
        return cast(Tensor, state)

    def _channels(
        self, scores: Tensor, observed: Tensor, future: Tensor | None, covariates: Covariates
    ) -> Tensor:
        channels = [scores[:, None], observed[:, None].to(scores.dtype)]
        if self.spec.past and covariates.past is not None:
            channels.append(_standardised(covariates.past, self.past_center, self.past_size))
        if future is not None:
            channels.append(future[:, :, : scores.shape[1]])
        return torch.cat(channels, dim=1)

    def _future(self, scores: Tensor, covariates: Covariates) -> Tensor | None:
        channels = []
        if self.spec.known and covariates.known is not None:
            channels.append(_standardised(covariates.known, self.known_center, self.known_size))
        if self.num_calendar:
            if covariates.calendar is None:
                shape = (scores.shape[0], self.num_calendar + 1, scores.shape[1] + self.spec.horizon)
                channels.append(scores.new_zeros(shape))
            else:
                given = ~covariates.calendar.isnan()
                calendar = torch.where(given, covariates.calendar, torch.zeros_like(covariates.calendar))
                channels.append(torch.cat([calendar, given[:, :1].to(calendar.dtype)], dim=1))
        return torch.cat(channels, dim=1) if channels else None

    def _static(self, covariates: Covariates) -> Tensor | None:
        parts: list[Tensor] = []
        if self.spec.static_numeric and covariates.static_numeric is not None:
            numbers = covariates.static_numeric[..., None]
            numbers = _standardised(numbers, self.static_center, self.static_size)[..., 0]
            parts.append(self.static(numbers))
        if self.spec.static_categories and covariates.static_categorical is not None:
            codes = covariates.static_categorical + 1  # 0: a category that is missing or new
            parts += [table(codes[:, place]) for place, table in enumerate(self.categories)]
        return torch.stack(parts).sum(0) if parts else None

    def _add_covariates(self, spec: ModelSpec, *, num_past: int, num_known: int) -> None:
        num_static = len(spec.static_numeric or ())
        for name, size in (("past", num_past), ("known", num_known), ("static", num_static)):
            self.register_buffer(f"{name}_center", torch.zeros(size, 1))
            self.register_buffer(f"{name}_size", torch.ones(size, 1))
        if num_static:
            self.static = nn.Linear(num_static, self.tokens.token_size)
        tables = (spec.static_categories or {}).values()
        self.categories = nn.ModuleList(
            nn.Embedding(len(table) + 1, self.tokens.token_size, padding_idx=0) for table in tables
        )

    def _add_future(self, spec: ModelSpec, hidden_size: int) -> None:
        num_patches = -(-spec.horizon // self.patch_length)
        self.num_steps = num_patches * self.patch_length
        if self.parallel:
            self.positions = nn.Parameter(torch.randn(1, num_patches, self.tokens.token_size))
        if self.num_future and self.parallel:
            self.look_ahead = nn.Linear(self.num_future * self.patch_length, self.tokens.token_size)
        elif self.num_future:
            self.look_ahead = nn.Linear(self.num_future * spec.horizon, hidden_size)


class AttentionPooling(nn.Module):
    """The last state, and what it finds among all of them by scaled dot products."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, states: Float[Tensor, "B N D"]) -> Float[Tensor, "B 1 D"]:
        last = states[:, -1:]
        found = F.scaled_dot_product_attention(self.query(last), self.key(states), states)
        return cast(Tensor, self.out(torch.cat([last, found], dim=2)))


def last_season(
    context: Float[Tensor, "B L"],
    observed: Bool[Tensor, "B L"],
    last: Float[Tensor, "B 1"],
    *,
    season_length: int,
    horizon: int,
) -> Float[Tensor, "B H"]:
    """For every step ahead the newest observed value of its phase; `last` where there is none."""
    missing = -context.shape[1] % season_length
    num_seasons = (context.shape[1] + missing) // season_length
    seasons = F.pad(context, (missing, 0)).reshape(-1, num_seasons, season_length)
    seen = F.pad(observed, (missing, 0)).reshape(-1, num_seasons, season_length)
    order = torch.arange(num_seasons, device=context.device)[None, :, None]
    newest = (seen * order).amax(dim=1, keepdim=True)
    found = seasons.gather(1, newest)[:, 0]
    phases = torch.where(seen.any(dim=1), found, last)
    return phases.repeat(1, -(-horizon // season_length))[:, :horizon]


def _standardised(values: Tensor, center: Tensor, size: Tensor) -> Tensor:
    """Covariates by the mean and deviation of training; zero where missing."""
    scaled = ((values - center) / size).clamp(-10, 10)
    return torch.where(values.isnan(), torch.zeros_like(values), scaled)


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
