"""The learning rate over the steps of a training, as a share of its highest value."""

import math

WARM_UP = {"cosine": 0.05, "one_cycle": 0.3, "constant": 0.0}
"""Share of the steps during which the rate rises, by schedule."""


def rate(step: int, *, num_steps: int, schedule: str) -> float:
    """The share for step number `step` (from 0) of `num_steps`; zero after the last, except when constant.

    Source of one_cycle: Smith & Topin, "Super-convergence", 2018, without the cycle of momentum.
    """
    if schedule == "constant":
        return 1.0
    rise = max(1, round(WARM_UP[schedule] * num_steps))
    if step < rise:
        return (step + 1) / (rise + 1)
    fallen = min((step - rise) / max(num_steps - rise, 1), 1.0)
    return 0.5 * (1 + math.cos(math.pi * fallen))
