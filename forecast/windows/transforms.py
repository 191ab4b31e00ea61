"""Monotone changes of units, written as steps from a base so that no precision is lost far from zero.

B windows, L context_length, H horizon, Q quantile levels

A transform z is never evaluated alone: `difference` is z(value) - z(base) and `step` is the value whose z
lies `delta` beyond that of the base. Values and bases are relative to a window's level, so unit noise on a
level of 1e9 survives in float32, and a step of zero returns the base exactly.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LARGEST_STEP = 40.0
"""Steps in log and asinh units are cut to this, so that no forecast overflows: a factor of 2e17."""


class Reference(NamedTuple):
    """What a window's values are measured from, each (B, 1)."""

    level: Float[Tensor, "B 1"]
    """Added to relative values it gives raw ones."""
    last: Float[Tensor, "B 1"]
    """The last observed value, relative to the level."""
    unit: Float[Tensor, "B 1"]
    """Mean absolute raw value of the context, in units; 1 where that is zero."""


def reference(
    context: Float[Tensor, "B L"], level: Float[Tensor, " B"], observed: Bool[Tensor, "B L"]
) -> Reference:
    """What the transforms need to know of a context whose missing values are zero."""
    level = level[:, None]
    size = ((context + level).abs() * observed).sum(1, keepdim=True) / observed.sum(1, keepdim=True).clamp(
        min=1
    )
    unit = torch.where(size > 0, size, torch.ones_like(size))
    return Reference(level=level, last=last_observed(context, observed), unit=unit)


def last_observed(context: Float[Tensor, "B L"], observed: Bool[Tensor, "B L"]) -> Float[Tensor, "B 1"]:
    """The newest observed value of each window; the value at its start (zero) where nothing was observed."""
    positions = torch.arange(context.shape[1], device=context.device)
    newest = (observed * positions).amax(dim=1, keepdim=True)
    return context.gather(1, newest)


def difference(
    transform: str, value: Float[Tensor, "B N"], base: Float[Tensor, "B M"], at: Reference
) -> Float[Tensor, "B N"]:
    """z(value) - z(base); `value` and `base` relative to the level, M either N or 1.

    Under `log` a value at or below zero counts as a millionth of its base (forecasters refuse it before).
    """
    apart = value - base
    if transform == "log":
        return log1p((apart / _positive(at.level + base)).clamp(min=-1 + 1e-6))
    if transform == "relative":
        return apart / _positive(at.level + at.last)
    if transform == "asinh":
        return _asinh_difference(apart / at.unit, (at.level + base) / at.unit)
    return apart


def step(
    transform: str, base: Float[Tensor, "B H 1"], delta: Float[Tensor, "B H Q"], at: Reference
) -> Float[Tensor, "B H Q"]:
    """The values, relative to the level, whose z lies `delta` beyond that of `base`."""
    level, last, unit = (part[:, :, None] for part in at)
    if transform == "log":
        return base + _positive(level + base) * expm1(delta.clamp(-LARGEST_STEP, LARGEST_STEP))
    if transform == "relative":
        return base + _positive(level + last) * delta
    if transform == "asinh":
        return base + unit * _sinh_step((level + base) / unit, delta.clamp(-LARGEST_STEP, LARGEST_STEP))
    return base + delta


def position(transform: str, at: Reference) -> Float[Tensor, "B 1"]:
    """z of the last observed value itself, for networks that are told the level."""
    raw = at.level + at.last
    if transform == "log":
        return _positive(raw).log()
    if transform == "relative":
        return torch.zeros_like(raw)
    return asinh(raw / at.unit) if transform == "asinh" else raw


def _positive(raw: Tensor) -> Tensor:
    """Raw values as divisors: those that are not above zero become 1 instead of making NaN."""
    return torch.where(raw > 0, raw, torch.ones_like(raw))


def _asinh_difference(apart: Tensor, base: Tensor) -> Tensor:
    """asinh(base + apart) - asinh(base), without cancellation.

    The difference of two asinh is asinh(a*sqrt(1 + b^2) - b*sqrt(1 + a^2)); the argument is rewritten as
    `apart` times a factor near one, so that a small step keeps all its digits.
    """
    value = base + apart
    root_base, root_value = (1 + base * base).sqrt(), (1 + value * value).sqrt()
    roots, product = root_base * root_value, base * value
    same_sign = (1 + base * base + value * value) / (roots + product.clamp(min=0))
    factor = (1 + torch.where(product > 0, same_sign, roots - product)) / (root_base + root_value)
    return asinh(apart * factor)


def _sinh_step(base: Tensor, delta: Tensor) -> Tensor:
    """sinh(asinh(base) + delta) - base, without cancellation."""
    half = sinh(delta / 2)
    return sinh(delta) * (1 + base * base).sqrt() + 2 * base * half * half


def log1p(x: Tensor) -> Tensor:
    """log(1 + x) to full precision from plain operations, because the exported log1p rounds small x away.

    Source: Goldberg, "What every computer scientist should know about floating-point arithmetic", 1991.
    """
    rounded = 1 + x
    apart = rounded - 1
    exact = apart == 0
    return torch.where(exact, x, rounded.log() * (x / torch.where(exact, torch.ones_like(x), apart)))


def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1 to full precision; in an exported graph from plain operations, as `log1p`."""
    if not torch.onnx.is_in_onnx_export():
        return torch.expm1(x)
    grown = x.exp()
    apart = grown - 1
    exact = (apart == 0) | (grown < 1e-6)
    exponent = torch.where(exact, torch.ones_like(x), grown).log()
    precise = apart * (x / torch.where(exact, torch.ones_like(x), exponent))
    return torch.where(apart == 0, x, torch.where(grown < 1e-6, apart, precise))


def asinh(x: Tensor) -> Tensor:
    """asinh to full precision from plain operations."""
    size = x.abs()
    return x.sign() * log1p(size + size * size / (1 + (1 + size * size).sqrt()))


def sinh(x: Tensor) -> Tensor:
    """sinh to full precision from `expm1`."""
    grown = expm1(x)
    return (grown + grown / (grown + 1)) / 2
