"""The decision at the end of a retrain: which candidate wins, and whether it replaces the champion.

the best candidate ──beats every baseline of must_beat?──no──> the best of those baselines
        │ yes                                                          │
        └─────────────────────────> the winner <───────────────────────┘
no champion yet ─────────────────────> promoted
the champion's own spec ─────────────> promoted (a refresh)
another spec ──better by margin?──yes─> promoted
                                └─no──> new data: the champion's spec is refreshed, where it is a candidate
                                        same data: the champion is kept, the winner becomes challenger
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from forecast.errors import TrainingError
from forecast.evaluation.candidates import Evaluated, choose
from forecast.evaluation.compare import compare
from pipelines.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Incumbent:
    """The champion's procedure, evaluated at the same cutoffs as the candidates."""

    version: str
    evaluated: Evaluated
    is_candidate: bool
    """Whether the recipe still asks for it; it is then one of the evaluated candidates."""
    has_same_data: bool
    """Whether the champion was trained on exactly the data of this retrain."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Which candidate is refitted and registered, and whether it becomes champion."""

    winner: Evaluated
    promote: bool
    reason: str


def decide(candidates: Sequence[Evaluated], recipe: Recipe, *, incumbent: Incumbent | None) -> Decision:
    """The winner among the candidates and what becomes of it; TrainingError when none can be scored."""
    winner, why = strongest(candidates, recipe)
    if incumbent is None:
        return Decision(winner=winner, promote=True, reason=f"first champion: {why}")
    champion = incumbent.evaluated
    refresh = f"{champion.name} trained again, follows version {incumbent.version}"
    if winner is champion:
        return Decision(winner=winner, promote=True, reason=f"{refresh}: {why}")
    verdict = compare(champion, winner, metric=recipe.gate.metric, margin=recipe.gate.margin)
    against = f"{winner.name} against {champion.name} of version {incumbent.version}: {verdict.reason}"
    if verdict.promote:
        return Decision(winner=winner, promote=True, reason=against)
    is_due = incumbent.is_candidate and not incumbent.has_same_data
    if is_due and not _beaten(champion, candidates, recipe):
        return Decision(winner=champion, promote=True, reason=f"{refresh} on new data ({against})")
    return Decision(winner=winner, promote=False, reason=against)


def strongest(candidates: Sequence[Evaluated], recipe: Recipe) -> tuple[Evaluated, str]:
    """The best candidate that beats all of `must_beat`, else the best of those baselines; and why."""
    metric = recipe.gate.metric
    scored = [each for each in candidates if math.isfinite(_score(each, metric))]
    rivals = [each for each in scored if each.name in recipe.gate.must_beat]
    contenders = [each for each in scored if each.name in recipe.candidates and each not in rivals]
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
