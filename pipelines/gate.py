"""The decision at the end of a retrain: which candidate wins, and whether it replaces the champion.

the best candidate ──beats every baseline of must_beat?──no──> the best of those baselines
        │ yes                                                          │
        └─────────────────────────> the winner <───────────────────────┘
no champion yet ─────────────────────> promoted
the champion's own spec ──objection?──no─> promoted (a refresh)
another spec ──better by margin, objection?──yes, none─> promoted
otherwise ──> new data: the champion's spec is refreshed, where it is a candidate and meets no objection
              else: the champion is kept, the winner becomes challenger

An objection: worse by more than `tolerance` than the frozen champion on enough windows after its training,
or intervals whose coverage lies beyond its bounds with all of its confidence range.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forecast.errors import DataError, TrainingError
from forecast.evaluation.candidates import Evaluated, choose
from forecast.evaluation.compare import CONFIDENCE, Verdict, compare
from pipelines.recipe import Recipe
from pipelines.sections import SEARCHED

if TYPE_CHECKING:
    import pandas as pd

Z = 1.96
"""Standard errors on each side of a coverage that make its 95 % confidence range."""


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """The champion as it serves, scored on the judge windows after its `trained_until`."""

    forecasts: "pd.DataFrame"
    """Windows that lie wholly after its training, in the columns of `Evaluated.forecasts`."""
    is_fair: bool
    """Whether what the candidates were judged by was fitted on data at least as late as the champion's."""

    @property
    def num_windows(self) -> int:
        """Windows, one per series and cutoff."""
        return len(self.forecasts[["unique_id", "cutoff"]].drop_duplicates())


@dataclass(frozen=True, kw_only=True)
class Incumbent:
    """The champion's procedure, evaluated at the same cutoffs as the candidates."""

    version: str
    evaluated: Evaluated
    is_candidate: bool
    """Whether the recipe still asks for it; it is then one of the evaluated candidates."""
    has_same_data: bool
    """Whether the champion was trained on exactly the data of this retrain."""
    frozen: Frozen | None = None
    """None where no window lies after its training, or where it could not be loaded."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Which candidate is refitted and registered, and whether it becomes champion."""

    winner: Evaluated
    promote: bool
    reason: str
    figures: dict[str, float] = field(default_factory=dict)
    """The numbers that it was decided by."""


def decide(candidates: Sequence[Evaluated], recipe: Recipe, *, incumbent: Incumbent | None) -> Decision:
    """The winner among the candidates and what becomes of it; TrainingError when none can be scored."""
    winner, why = strongest(candidates, recipe)
    figures = {"challenger": _score(winner, recipe.gate.metric)}
    if incumbent is None:
        return Decision(winner=winner, promote=True, reason=f"first champion: {why}", figures=figures)
    champion = incumbent.evaluated
    refresh = f"{champion.name} trained again, follows version {incumbent.version}"
    objection = _objection(winner, incumbent, recipe)
    if winner is champion:
        figures |= _figures_of_frozen(winner, incumbent, recipe)
        reason = f"{refresh}: {objection or why}"
        return Decision(winner=winner, promote=not objection, reason=reason, figures=figures)
    verdict = compare(champion, winner, metric=recipe.gate.metric, margin=recipe.gate.margin)
    figures |= _figures(verdict) | _figures_of_frozen(winner, incumbent, recipe)
    against = f"{winner.name} against {champion.name} of version {incumbent.version}: {verdict.reason}"
    if verdict.promote and objection:
        against = f"{against}; {objection}"
    if verdict.promote and not objection:
        return Decision(winner=winner, promote=True, reason=against, figures=figures)
    is_due = incumbent.is_candidate and not incumbent.has_same_data
    if is_due and not _beaten(champion, candidates, recipe) and not _objection(champion, incumbent, recipe):
        reason = f"{refresh} on new data ({against})"
        return Decision(winner=champion, promote=True, reason=reason, figures=figures)
    return Decision(winner=winner, promote=False, reason=against, figures=figures)


def strongest(candidates: Sequence[Evaluated], recipe: Recipe) -> tuple[Evaluated, str]:
    """The best candidate that beats all of `must_beat`, else the best of those baselines; and why."""
    metric = recipe.gate.metric
    scored = [each for each in candidates if math.isfinite(_score(each, metric))]
    rivals = [each for each in scored if each.name in recipe.gate.must_beat]
    names = {*recipe.candidates, SEARCHED}
    contenders = [each for each in scored if each.name in names and each not in rivals]
    if not contenders and not rivals:
        raise TrainingError(
            f"no candidate has a finite {metric}: the unseen windows hold no observed value; give more "
            "recent data, or more windows under [backtest]"
        )
    rival = min(rivals, key=lambda each: _score(each, metric)) if rivals else None
    if not contenders:
        assert rival is not None
        return rival, f"{rival.name} has the lowest {metric} of the baselines, {_score(rival, metric):.4g}"
    best = choose(contenders, metric=metric)
    if rival is None:
        return best, f"{best.name} has the lowest {metric} in selection"
    numbers = f"{metric} {_score(best, metric):.4g} against {_score(rival, metric):.4g} of {rival.name}"
    if _score(best, metric) < _score(rival, metric):
        return best, f"{best.name} beats every baseline, {numbers}"
    return rival, f"{rival.name} is not beaten by {best.name}, the best in selection ({numbers})"


def _beaten(each: Evaluated, candidates: Sequence[Evaluated], recipe: Recipe) -> bool:
    """Whether a baseline of `must_beat` is at least as good."""
    metric = recipe.gate.metric
    rivals = [rival for rival in candidates if rival.name in recipe.gate.must_beat and rival is not each]
    return any(_score(rival, metric) <= _score(each, metric) for rival in rivals)


def _score(each: Evaluated, metric: str) -> float:
    """The metric on the judge windows; infinity where it could not be computed."""
    value = each.metrics.get(metric)
    return math.inf if value is None or not math.isfinite(value) else float(value)


def _objection(each: Evaluated, incumbent: Incumbent, recipe: Recipe) -> str:
    """What speaks against letting `each` replace the champion; empty where nothing does."""
    return "; ".join(
        filter(None, [_worse_than_frozen(each, incumbent, recipe), *_miscalibrated(each, recipe)])
    )


def _worse_than_frozen(each: Evaluated, incumbent: Incumbent, recipe: Recipe) -> str:
    """That the champion as it serves was better on windows new to both, by more than `tolerance`.

    Too few windows, or a champion that has seen later data than the candidate, say nothing; where there is
    enough to tell chance from difference, the difference has to be more than chance.
    """
    frozen = incumbent.frozen
    if frozen is None or not frozen.is_fair or frozen.num_windows < recipe.gate.minimum_windows:
        return ""
    verdict = _against_frozen(each, frozen, recipe)
    if verdict is None or verdict.promote:
        return ""
    if verdict.p_value is not None and verdict.p_value <= CONFIDENCE:
        return ""
    return f"worse than version {incumbent.version} as it serves: {verdict.reason}"


def _against_frozen(each: Evaluated, frozen: Frozen, recipe: Recipe) -> Verdict | None:
    try:
        return compare(frozen.forecasts, each, metric=recipe.gate.metric, tolerance=recipe.gate.tolerance)
    except DataError:  # no window that both have and that is observed
        return None


def _miscalibrated(each: Evaluated, recipe: Recipe) -> Iterable[str]:
    """The intervals whose coverage lies beyond its bounds with all of its confidence range."""
    for level, (least, most) in recipe.gate.coverage_bounds.items():
        found = each.coverage.get(level)
        if found is None or not found.estimate.is_sure:
            continue
        share, reach = found.estimate.mean, Z * found.estimate.error
        if share + reach < least or share - reach > most:
            yield (
                f"its {level} % intervals hold {100 * share:.0f} % ± {100 * reach:.0f} of the values, and "
                f"coverage_{level} asks for {100 * least:.0f} to {100 * most:.0f} %"
            )


def _figures(verdict: Verdict) -> dict[str, float]:
    """A comparison as numbers; what is unknown is left out."""
    figures: dict[str, float | None] = {
        "champion": verdict.incumbent,
        "challenger": verdict.challenger,
        "improvement": verdict.improvement,
        "p_value": verdict.p_value,
        "num_windows": verdict.num_windows,
    }
    return {name: value for name, value in figures.items() if value is not None}


def _figures_of_frozen(each: Evaluated, incumbent: Incumbent, recipe: Recipe) -> dict[str, float]:
    """How the champion as it serves did on its unseen windows, and how many there were."""
    verdict = _against_frozen(each, incumbent.frozen, recipe) if incumbent.frozen else None
    if verdict is None:
        return {"frozen_windows": 0}
    return {
        "frozen_champion": verdict.incumbent,
        "frozen_challenger": verdict.challenger,
        "frozen_windows": verdict.num_windows,
    }
