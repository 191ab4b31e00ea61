"""One optimiser step, with nothing in it that waits for the device.

B windows, H horizon
"""

from collections.abc import Callable
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forecast.models.network import Covariates, ForecastNetwork, Window
from forecast.training.config import TrainConfig
from forecast.training.losses import forecast_loss
from forecast.windows.sampler import Batch

BETAS = (0.9, 0.98)
"""AdamW's memories: the second is shorter than usual because trainings are short."""

LARGEST_RELATIVE_SIZE = 5.0
"""A window that moves more than so many times as much as its series usually does weighs no more for it."""


class Step:
    """A member of a network, its optimiser and the running average of its weights."""

    def __init__(
        self,
        network: ForecastNetwork,
        member: int,
        config: TrainConfig,
        *,
        weight_decay: float,
        device: torch.device,
    ) -> None:
        self.network, self.member, self.config, self.device = network, member, config, device
        self.module = network.members[member]
        self.parameters: list[Tensor] = [each for each in self.module.parameters() if each.requires_grad]
        self.averaged = deepcopy(self.module).eval().requires_grad_(False)
        self.means: list[Tensor] = list(self.averaged.parameters())
        self.optimizer = _optimizer(self.module, weight_decay=weight_decay)
        self.levels = torch.tensor(network.spec.quantile_levels, device=device)
        self.middle = network.middle
        self.autocast = _half_precision(config, device)
        self.scores: Callable[..., Tensor] = self.module
        if config.compile:
            self.scores = torch.compile(self.module)

    def __call__(self, batch: Batch, *, learning_rate: float, number: int) -> Float[Tensor, ""]:
        """One step with number `number` (from 0); returns its loss, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        loss = self.loss(batch, self.scores)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average(number)
        return loss.detach()

    def loss(self, batch: Batch, scores: Callable[..., Tensor]) -> Float[Tensor, ""]:
        """The loss of a batch by `scores`, the member or its average."""
        window, target = self.seen(batch)
        covariates = Covariates(*batch[6:])
        if self.autocast:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                quantiles = scores(window.scores, window.observed, covariates)
        else:
            quantiles = scores(window.scores, window.observed, covariates)
        return self.measured(quantiles, target, window, batch)

    @torch.no_grad()
    def seen(self, batch: Batch) -> tuple[Window, Float[Tensor, "B H"]]:
        """Windows as the network reads them, and their targets as scores; NaN beside a constant context."""
        window = self.network.read(batch.context, batch.level)
        target = self.network.target(window, batch.target)
        return window, torch.where(window.scale.size > 0, target, torch.nan)

    def measured(
        self,
        quantiles: Float[Tensor, "B H Q"],
        target: Float[Tensor, "B H"],
        window: Window,
        batch: Batch,
        *,
        kind: str | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of quantiles of `window`, each window weighted; `kind` other than that of the spec."""
        return forecast_loss(
            quantiles.float(),
            target,
            levels=self.levels,
            middle=self.middle,
            kind=kind or self.network.spec.loss or "pinball",
            weight=batch.weight * relative_size(window.scale.size[:, 0], batch.usual_size),
            upright=batch.upright,
        )

    def average(self, number: int) -> None:
        """Move the averaged weights towards the present ones; early on they follow closely."""
        decay = min(self.config.averaging, (1 + number) / (10 + number))
        torch._foreach_lerp_(self.means, self.parameters, 1 - decay)


def relative_size(size: Float[Tensor, " B"], usual: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """How large windows are beside others of their series, 1 where that is unknown.

    Times an error in scales it is the error in units: what a metric in units counts, and why a restless
    month outweighs a quiet one. Capped, so that no outlier outweighs a series.
    """
    return torch.where(usual > 0, size / usual, torch.ones_like(size)).clamp(max=LARGEST_RELATIVE_SIZE)


class GraphedStep:
    """A step replayed as one CUDA graph for batches of one shape; others go through the step as it is.

    The graph holds forward, backward, clipping, optimiser and averaging; rate and decay are tensors that it
    reads.
    """

    WARM_UP = 5

    def __init__(self, step: Step) -> None:
        self.step = step
        self.rate = torch.zeros((), device=step.device)
        self.decay = torch.zeros((), device=step.device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: Batch | None = None
        self.result: Tensor | None = None
        self.seen = 0
        for group in step.optimizer.param_groups:
            group["lr"] = self.rate
            group["capturable"] = True

    def __call__(self, batch: Batch, *, learning_rate: float, number: int) -> Float[Tensor, ""]:
        """As `Step`; the first calls run as they are, then the step is captured."""
        self.rate.fill_(learning_rate)
        self.decay.fill_(1 - min(self.step.config.averaging, (1 + number) / (10 + number)))
        if self.graph is not None and self.batch is not None and _same_shapes(batch, self.batch):
            for held, new in zip(self.batch, batch, strict=True):
                if held is not None and new is not None:
                    held.copy_(new)
            self.graph.replay()
            assert self.result is not None
            return self.result.clone()
        self.seen += 1
        if self.graph is None and self.seen > self.WARM_UP:
            return self._capture(batch)
        return self._run(batch)

    def _run(self, batch: Batch) -> Tensor:
        """The step, with every gradient in place for a replay."""
        step = self.step
        stream = torch.cuda.Stream(step.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(step.device))
        with torch.cuda.stream(stream):
            result = self._body(batch)
        torch.cuda.current_stream(step.device).wait_stream(stream)
        return result

    def _body(self, batch: Batch) -> Tensor:
        step = self.step
        step.optimizer.zero_grad(set_to_none=True)
        loss = step.loss(batch, step.scores)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(step.parameters, step.config.clip_norm, foreach=True)
        step.optimizer.step()
        for mean, parameter in zip(step.means, step.parameters, strict=True):
            mean.lerp_(parameter.detach(), self.decay)
        return loss.detach()

    def _capture(self, batch: Batch) -> Tensor:
        self.batch = Batch(*(None if part is None else part.clone() for part in batch))  # type: ignore[arg-type]
        self.step.optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = self._body(self.batch)
        self.graph.replay()
        return self.result.clone()


def _same_shapes(batch: Batch, other: Batch) -> bool:
    return len(batch.context) == len(other.context)


def _optimizer(module: nn.Module, *, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW that decays matrices and leaves vectors alone."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in trained if each.ndim > 1], "weight_decay": weight_decay},
        {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=BETAS, fused=True)


def _half_precision(config: TrainConfig, device: torch.device) -> bool:
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bf16"
