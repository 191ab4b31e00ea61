"""The training loop of one network: batches by index, checks, best weights, checkpoints.

W training windows
"""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from forecast.errors import TrainingError
from forecast.models.network import ForecastNetwork
from forecast.training.checkpoint import Checkpoint, random_state, restore_random_state
from forecast.training.config import TrainConfig
from forecast.training.defaults import Plan
from forecast.training.events import EpochEvent, Listener
from forecast.training.progress import Progress
from forecast.training.schedule import rate
from forecast.training.step import GraphedStep, Step
from forecast.windows.sampler import Augmentation, DeviceIndex, Sampler
from forecast.windows.split import MAX_VALIDATION_WINDOWS

NUM_CHECKS = 20
"""Checks in one training whose epochs are not counted by the user."""

MEASURED_STEPS = 20
"""Steps after which a training with a limit of seconds knows how many more will fit."""

VALIDATION_BATCH = 1024


@dataclass
class Progressed:
    """Where a training stands; with tensors and generators, all that a checkpoint holds."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    seconds: float = 0.0
    num_steps: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    checks_without_gain: int = 0
    loss_steps: int = 0
    losses: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; infinity as null."""
        best = None if math.isinf(self.best_loss) else self.best_loss
        return {**self.__dict__, "best_loss": best}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Progressed":
        """The inverse of `to_dict`."""
        best = values["best_loss"]
        return cls(**{**values, "best_loss": math.inf if best is None else best})


class Training:
    """One member of a network being trained; `run` leaves the best weights in it."""

    def __init__(
        self,
        network: ForecastNetwork,
        member: int,
        *,
        sampler: Sampler,
        training: DeviceIndex,
        validation: DeviceIndex,
        plan: Plan,
        config: TrainConfig,
        listener: Listener | None = None,
    ) -> None:
        self.network, self.member = network, member
        self.sampler, self.training, self.validation = sampler, training, validation
        self.plan, self.config, self.listener = plan, config, listener
        self.at = Progressed(num_steps=plan.num_steps)
        self.seed = config.seed * 1009 + member
        self.generator = torch.Generator(sampler.storage).manual_seed(self.seed)
        self.step = Step(network, member, config, weight_decay=plan.weight_decay, device=sampler.device)
        self.take_step = self._accelerated()
        self.best = self._averaged_tensors()
        self.total_loss = torch.zeros((), device=sampler.device)
        self.order = training.order(seed=self.seed, epoch=0)
        self.held_out = validation.spread(MAX_VALIDATION_WINDOWS)
        self.check_every = self._check_every()

    def run(self, progress: Progress, *, save: Any = None) -> Progressed:
        """Train to the end of the plan, the limit of seconds, or the end of patience.

        `save` is called with nothing at times when a checkpoint is due, and at the end. TrainingError where
        the loss is no number.
        """
        began, saved = time.monotonic() - self.at.seconds, time.monotonic()
        if self.at.step == 0:
            self._validate()
        while self.at.step < self.at.num_steps and not self._is_over():
            self._one_step()
            progress.step()
            self.at.seconds = time.monotonic() - began
            self._fit_into_seconds()
            if self.at.step % self.check_every == 0 or self.at.step == self.at.num_steps:
                progress.check(self._check())
            if save is not None and time.monotonic() - saved >= self.config.checkpoint_seconds:
                save()
                saved = time.monotonic()
        if self.at.loss_steps:  # the limit of seconds came between two checks
            progress.check(self._check())
        if save is not None:  # the end too, so that a finished training need not be repeated
            save()
        self._keep_best()
        return self.at

    def checkpoint(self) -> Checkpoint:
        """Everything that the rest of this training depends on."""
        groups = {
            "weights": dict(self.step.module.state_dict()),
            "averaged": dict(self.step.averaged.state_dict()),
            "best": self.best,
            "optimizer": _optimizer_tensors(self.step.optimizer),
            "random": {
                **random_state(self.sampler.device),
                "windows": self.generator.get_state(),
                "total_loss": self.total_loss,
            },
        }
        tensors = {f"{group}.{name}": value for group, own in groups.items() for name, value in own.items()}
        return Checkpoint(tensors=tensors, state=self.at.to_dict())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Stand where `checkpoint` was taken."""
        self.at = Progressed.from_dict(checkpoint.state)
        self.step.module.load_state_dict(checkpoint.group("weights"))
        self.step.averaged.load_state_dict(checkpoint.group("averaged"))
        self.best = {name: value.to(self.sampler.device) for name, value in checkpoint.group("best").items()}
        _restore_optimizer(self.step.optimizer, checkpoint.group("optimizer"))
        random = checkpoint.group("random")
        restore_random_state(random, self.sampler.device)
        self.generator.set_state(random["windows"])
        self.total_loss = random["total_loss"].to(self.sampler.device)
        self.order = self.training.order(seed=self.seed, epoch=self.at.epoch)

    def _one_step(self) -> None:
        numbers = self.order[self.at.position : self.at.position + self.plan.batch_size]
        batch = self.sampler.training_windows(
            self.training,
            numbers,
            augmentation=Augmentation(
                truncate_share=self.config.truncate_share,
                drop_share=self.config.drop_share,
                flip_share=self.plan.flip_share,
            ),
            generator=self.generator,
        )
        loss = self.take_step(batch, learning_rate=self._rate(), number=self.at.step)
        self.total_loss += loss
        self.at.loss_steps += 1
        self.at.step += 1
        self.at.position += len(numbers)
        if self.at.position >= len(self.order):
            self.at.epoch, self.at.position = self.at.epoch + 1, 0
            self.order = self.training.order(seed=self.seed, epoch=self.at.epoch)

    def _rate(self) -> float:
        planned = max(self.plan.schedule_steps + self.at.num_steps - self.plan.num_steps, 1)
        return self.plan.learning_rate * rate(self.at.step, num_steps=planned, schedule=self.config.schedule)

    def _check(self) -> EpochEvent:
        """Say how it goes and remember the best weights; only here does the loop wait for the device."""
        train_loss = float(self.total_loss) / max(self.at.loss_steps, 1)
        if not math.isfinite(train_loss):
            raise TrainingError(
                f"training diverged: the loss is {train_loss} at step {self.at.step}; lower learning_rate "
                f"(it was "
                f"{self.plan.learning_rate:g}), or look for values that do not belong in the data."
            )
        self.total_loss.zero_()
        self.at.loss_steps = 0
        event = EpochEvent(
            epoch=self.at.epoch,
            step=self.at.step,
            train_loss=train_loss,
            validation_loss=self._validate(),
            learning_rate=self._rate(),
            seconds=self.at.seconds,
            windows_per_second=self._windows_done() / max(self.at.seconds, 1e-9),
            member=self.member,
        )
        if self.listener is not None:
            self.listener(event)
        return event

    def _validate(self) -> float | None:
        """The averaged weights' loss on held-out windows, which decides what is kept."""
        if not len(self.held_out):
            return None
        total = torch.zeros((), device=self.sampler.device)
        with torch.no_grad():
            for numbers in torch.split(self.held_out, VALIDATION_BATCH):
                batch = self.sampler.windows(self.validation, numbers)
                total += self.step.loss(batch, self.step.averaged) * len(numbers)
        loss = float(total) / len(self.held_out)
        if loss < self.at.best_loss:
            self.at.best_loss, self.at.best_step, self.at.checks_without_gain = loss, self.at.step, 0
            self.best = self._averaged_tensors()
        else:
            self.at.checks_without_gain += 1
        return loss

    def _keep_best(self) -> None:
        if not len(self.held_out):
            self.best, self.at.best_step = self._averaged_tensors(), self.at.step
        self.step.module.load_state_dict(self.best)

    def _averaged_tensors(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.step.averaged.state_dict().items()}

    def _windows_done(self) -> int:
        return self.at.epoch * len(self.order) + self.at.position

    def _is_over(self) -> bool:
        limit = self._seconds()
        late = limit is not None and self.at.seconds >= limit
        patience = self.plan.patience
        return late or (patience is not None and self.at.checks_without_gain > patience)

    def _fit_into_seconds(self) -> None:
        """Shorten a plan that would not fit, so that the learning rate still comes down."""
        limit = self._seconds()
        if limit is None or self.at.step != MEASURED_STEPS:
            return
        per_step = self.at.seconds / self.at.step
        fitting = max(int(0.9 * limit / per_step), self.at.step + 1)
        if fitting < self.at.num_steps:
            self.at.num_steps = fitting
            self.check_every = min(self.check_every, max(1, fitting // NUM_CHECKS))

    def _seconds(self) -> float | None:
        limit = self.config.max_seconds
        return None if limit is None else limit / len(self.network.members)

    def _check_every(self) -> int:
        epoch_steps = -(-len(self.order) // self.plan.batch_size)
        if self.config.max_epochs is not None:
            return epoch_steps
        return max(1, -(-self.plan.num_steps // NUM_CHECKS))

    def _accelerated(self) -> Step | GraphedStep:
        on_gpu = self.sampler.device.type == "cuda"
        wanted = self.config.cuda_graphs
        return GraphedStep(self.step) if on_gpu and (wanted or wanted is None) else self.step


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's memory as `NUMBER.NAME`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, own in state.items() for name, value in own.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
