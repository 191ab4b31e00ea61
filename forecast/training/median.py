"""What the median is made of, settled after training: network and season map mixed, or the base alone.

The base is the last value or the last season, which an untrained network forecasts.
"""

import math

import torch

from forecast.models.network import Covariates, ForecastNetwork, mixed
from forecast.models.season_map import SeasonMap
from forecast.training.season_map import fit_season_map
from forecast.training.step import Step
from forecast.windows.sampler import DeviceIndex, Sampler

EQUAL = 0.5
"""Share of the season map beside a network: weights from few windows hardly ever beat equal ones.
Source: Smith & Wallis, "A simple explanation of the forecast combination puzzle", 2009."""

DOUBT = 0.02
"""By what share of its loss the mixture has to lose to the network on held-out steps to be left out."""

CHANCE = 0.1
"""By what share of the loss a median may beat the base by chance, over one horizon of held-out steps."""

BATCH = 512


def settle_median(
    step: Step, sampler: Sampler, *, training: DeviceIndex, held_out: DeviceIndex, num_spans: float
) -> dict[str, str]:
    """Settle `median` and `season_map` of a trained network, and write them into its spec; reasons by field.

    What the spec leaves open is chosen by the loss of held-out windows. Network and season map are mixed in
    equal parts, unless the network alone is clearly better. A learned median has to beat the base by more
    than chance, which shrinks with the root of `num_spans`, the horizons that fit into the held-out steps.
    Else it is the base, and the other quantiles keep their distances from it: walks without a memory are
    forecast best so, and what a network learns of them is their past. Without held-out windows the median is
    learned, without a season map.
    """
    network = step.network.eval()
    spec = network.spec
    if spec.median == "base":
        return _settled(network, "base", reasons={})
    chosen = held_out.num_windows > 0
    share = spec.season_map if spec.season_map is not None else EQUAL if chosen else 0.0
    season_map = SeasonMap(spec).to(sampler.device) if share else None
    if season_map is not None:
        fit_season_map(season_map, step, sampler, training)
    if not chosen or (spec.median is not None and spec.season_map is not None):
        return _settled(network, "learned", share=share, season_map=season_map, reasons={})
    loss, alone, base = _losses(step, sampler, held_out, season_map, share)
    reasons = {}
    if spec.season_map is None:
        reasons["season_map"] = (
            f"equal parts lose {loss / alone - 1:.1%} on held-out steps, {DOUBT:.0%} are chance"
        )
        if loss > (1 + DOUBT) * alone:
            share, loss = 0.0, alone
    if spec.median is None:
        gain, needed = 1 - loss / max(base, 1e-30), CHANCE / math.sqrt(max(num_spans, 1.0))
        reasons["median"] = (
            f"gains {gain:.1%} over the base on held-out steps, where {needed:.1%} may be chance"
        )
        if gain < needed:
            return _settled(network, "base", reasons=reasons)
    return _settled(network, "learned", share=share, season_map=season_map, reasons=reasons)


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
    """The loss of the mixture, that of the network alone, and that of the base."""
    network = step.network
    totals = [0.0, 0.0, 0.0]
    for numbers in torch.split(held_out.spread(held_out.num_windows), BATCH):
        batch = sampler.windows(held_out, numbers)
        window, target = step.seen(batch)
        quantiles = network.averaged(window, Covariates(*batch[6:]))
        base = torch.zeros_like(target)
        ahead = base if season_map is None else season_map(window.scores, window.observed)
        for place, (median, weight) in enumerate(((ahead, share), (ahead, 0.0), (base, 1.0))):
            moved = mixed(quantiles, median, share=weight, middle=network.middle)
            totals[place] += float(step.measured(moved, target, window, batch)) * len(target)
    return totals[0], totals[1], totals[2]
