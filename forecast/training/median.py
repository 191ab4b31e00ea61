"""What the median is made of, settled after training: network and season map mixed, or the base alone.

The base is the last value or the last season, which an untrained network forecasts.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from forecast.models.network import Covariates, ForecastNetwork
from forecast.models.season_map import SeasonMap
from forecast.training.season_map import fit_season_map
from forecast.training.step import Step
from forecast.windows.sampler import DeviceIndex, Sampler
from forecast.windows.split import MAX_VALIDATION_WINDOWS

EQUAL = 0.5
"""Share of the season map beside a network: weights from few windows hardly ever beat equal ones.
Source: Smith & Wallis, "A simple explanation of the forecast combination puzzle", 2009."""

DOUBT = 0.02
"""By what share of its loss the mixture has to lose to the network on held-out steps to be left out."""

CHANCE = 0.1
"""By what share of the loss a median may beat the base by chance, over one horizon of held-out steps of one
series."""

BATCH = 512


def settle_median(
    step: Step, sampler: Sampler, *, training: DeviceIndex, held_out: DeviceIndex, num_spans: float
) -> dict[str, str]:
    """Settle `median` and `season_map` of a trained network, and write them into its spec; reasons by field.

    What the spec leaves open is chosen by the loss of held-out windows. Network and season map are mixed in
    equal parts, unless the network alone is clearly better. A learned median has to beat the base by more
    than chance, which shrinks with the root of `num_spans`, independent stretches of a horizon that were held
    out. Else it is the base, and the other quantiles keep their distances from it: walks without a memory
    are forecast best so, and what a network learns of them is their past. A share that the spec sets is
    learned. Without held-out targets the median is learned, without a season map that is not asked for.
    """
    network = step.network.eval()
    spec = network.spec
    if spec.median == "base":
        return _settled(network, "base", reasons={})
    share = spec.season_map if spec.season_map is not None else EQUAL if held_out.num_windows else 0.0
    season_map = SeasonMap(spec).to(sampler.device) if share else None
    if season_map is not None:
        fit_season_map(season_map, step, sampler, training)
    loss, alone, base = _losses(step, sampler, held_out, season_map, share)
    if not base > 0:  # nothing was held out, or nothing of it counts
        told = "no held-out target to choose by"
        reasons = {name: told for name in ("median", "season_map") if getattr(spec, name) is None}
        return _settled(
            network, "learned", share=spec.season_map or 0.0, season_map=season_map, reasons=reasons
        )
    reasons = {}
    if spec.season_map is None:
        reasons["season_map"] = (
            f"equal parts err {_beside(loss, alone)} than the network alone on held-out steps"
        )
        if not loss <= (1 + DOUBT) * alone:
            share, loss = 0.0, alone
    if spec.median is None and not spec.season_map:
        needed = CHANCE / math.sqrt(max(num_spans, 1.0))
        told = f"errs {_beside(loss, base)} than the base on held-out steps, where {needed:.1%} may be chance"
        reasons["median"] = told
        if not loss <= (1 - needed) * base:
            return _settled(network, "base", reasons=reasons | {"season_map": "the median is the base"})
    return _settled(network, "learned", share=share, season_map=season_map, reasons=reasons)


def settle_untrained(network: ForecastNetwork) -> dict[str, str]:
    """Write into the spec of a network without a step of training what its median is."""
    return _settled(
        network, "base", reasons={"median": "was not trained", "season_map": "the median is the base"}
    )


def num_spans(held_out: NDArray[np.int64], *, horizon: int) -> float:
    """Independent stretches of a horizon in `held_out` (N,) steps at the end of each series.

    Series move together: N of them count as the root of N.
    """
    split = held_out[held_out > 0]
    return float(np.median(split)) / horizon * math.sqrt(len(split)) if len(split) else 0.0


def _beside(loss: float, other: float) -> str:
    """How much less or more a loss is than another."""
    apart = 1 - loss / other if other > 0 else 0.0
    return f"{abs(apart):.1%} {'less' if apart >= 0 else 'more'}"


def _settled(
    network: ForecastNetwork,
    median: str,
    *,
    share: float = 0.0,
    season_map: SeasonMap | None = None,
    reasons: dict[str, str],
) -> dict[str, str]:
    """The reasons, with all that is chosen written into the network."""
    network.spec = network.spec.with_(median=median, season_map=share)
    network.season_map = season_map if share else None
    if median == "base":
        network.forget_median()
    return reasons


@torch.no_grad()
def _losses(
    step: Step, sampler: Sampler, held_out: DeviceIndex, season_map: SeasonMap | None, share: float
) -> tuple[float, float, float]:
    """The loss of the mixture, that of the network alone, and that of the base.

    The median's absolute error and the others' pinball loss, whatever the network learned by: shares of other
    losses mean other things.
    """
    network = step.network
    totals = [0.0, 0.0] if season_map is None else [0.0, 0.0, 0.0]
    for numbers in torch.split(held_out.spread(MAX_VALIDATION_WINDOWS), BATCH):
        batch = sampler.windows(held_out, numbers)
        window, target = step.seen(batch)
        quantiles = network.averaged(window, Covariates(*batch[6:]))
        tried = [quantiles, quantiles - quantiles[..., network.middle, None]]
        if season_map is not None:
            tried.append(network.mixed(window, quantiles, season_map, share=share))
        for place, each in enumerate(tried):
            totals[place] += float(step.measured(each, target, window, batch, kind="mae")) * len(target)
    alone, base, *mixture = totals
    return (mixture or [alone])[0], alone, base
