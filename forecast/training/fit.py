"""The verb of the library: a panel and a spec in, a forecaster out."""

import warnings
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from json import dumps
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from forecast.errors import ArtifactError, DataError, SpecError, ValueRangeError
from forecast.models.calibration import Calibration
from forecast.models.forecaster import POSITIVE_TRANSFORMS, Backend, Forecaster, ForecasterInfo, check_panel
from forecast.models.identity import Identity
from forecast.models.network import ForecastNetwork
from forecast.models.spec import ModelSpec
from forecast.models.torch_backend import TorchBackend
from forecast.series.encoding import flat_indices
from forecast.series.panel import Panel
from forecast.training.baselines import fit_baseline
from forecast.training.checkpoint import Checkpoint, read, write
from forecast.training.config import TrainConfig
from forecast.training.defaults import goes_below_zero, in_epochs, plan, resolve
from forecast.training.events import Listener
from forecast.training.loop import Training
from forecast.training.median import num_spans, settle_median, settle_untrained
from forecast.training.progress import Progress
from forecast.training.step import Step
from forecast.training.surroundings import enough_threads, kept_memory, repeatable_algorithms
from forecast.windows.index import training_windows
from forecast.windows.sampler import DeviceIndex, Sampler
from forecast.windows.spec import WindowSpec
from forecast.windows.split import Split, split

MAX_NAMED = 5

SIZED_WINDOWS = 16
"""Windows per series that tell how large its windows usually are, spread evenly over it."""

MAX_SIZED_WINDOWS = 100_000
"""Of all series together; with more series there is one window each, and a million cost seconds."""

SIZED_AT_ONCE = 4096


def fit(
    panel: Panel,
    spec: ModelSpec,
    config: TrainConfig | None = None,
    *,
    on_epoch: Listener | None = None,
    resume_from: str | Path | None = None,
    validation: int | None = None,
    weights: NDArray[np.float32] | None = None,
) -> Forecaster:
    """Train the model that `spec` asks for on every series of `panel`.

    What the spec leaves open is filled in by `forecast.training.defaults.resolve` and stored with its
    reasons. A baseline needs no training. `validation` holds back so many steps at the end of each series
    for choosing the best weights (0: none; None: by rule). `weights` (N,) say how much each series counts.
    `resume_from` is the `checkpoint` folder of a training that was interrupted: it goes on exactly where
    that one stood.

    Raises DataError where there is too little to learn from, ValueRangeError (naming the series) for values
    outside a transform's domain, TrainingError where the loss diverges.
    """
    check_panel(panel)
    _check_types(spec, config)
    if spec.is_baseline:
        return fit_baseline(panel, spec, held_out=validation or 0)
    config = config or TrainConfig()
    resolved, reasons = resolve(spec, panel)
    data = _with_covariates(panel, resolved)
    _check_validation(validation)
    weights = _checked_weights(weights, len(panel))
    _check_domain(panel, resolved)
    device = pick_device(config.device)
    forked = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with forked, kept_memory(), repeatable_algorithms(config.deterministic):
        torch.manual_seed(config.seed)
        network = ForecastNetwork(resolved)
        job = Job(data, network, config, device=device, validation=validation, weights=weights)
        with enough_threads(network, batch_size=job.plan.batch_size):
            steps = job.run(on_epoch, resume_from=None if resume_from is None else Path(resume_from))
    return _forecaster(
        panel, network.spec, reasons | job.reasons, backend=TorchBackend(network.cpu()), num_steps=steps
    )


def pick_device(name: str) -> torch.device:
    """The device of a name; SpecError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SpecError(
            f"device={name!r} was asked for and torch finds no GPU here; use device='auto' or 'cpu'."
        )
    return torch.device(name)


def _check_types(spec: object, config: object) -> None:
    for name, value, kind in (("spec", spec, ModelSpec), ("config", config, TrainConfig)):
        if not isinstance(value, kind | None if name == "config" else kind):
            raise SpecError(f"{name} is an fc.{kind.__name__}(...); got {type(value).__name__}.")


def _check_validation(steps: object) -> None:
    if steps is None:
        return
    if not isinstance(steps, int | np.integer) or isinstance(steps, bool) or steps < 0:
        raise DataError(f"validation is a whole number of steps from 0 on; got {steps!r}.")


class Job:
    """All members of one network, trained one after the other."""

    def __init__(
        self,
        panel: Panel,
        network: ForecastNetwork,
        config: TrainConfig,
        *,
        device: torch.device,
        validation: int | None,
        weights: NDArray[np.float32] | None,
    ) -> None:
        spec = network.spec
        windows = WindowSpec(
            context_length=spec.context_length or 1, horizon=spec.horizon, min_context=spec.min_context or 1
        )
        starts = np.minimum(panel.first_observed, panel.lengths)
        num_windows = training_windows(windows, starts=starts, limits=panel.lengths).num_windows
        self.reasons = _left_out(panel, windows, starts)
        self.plan = plan(
            config,
            spec=spec,
            num_windows=num_windows,
            lengths=panel.lengths,
            below_zero=goes_below_zero(panel),
        )
        held_out = self.plan.num_held_out if validation is None else validation
        self.split: Split = split(windows, starts=starts, lengths=panel.lengths, num_held_out=held_out)
        if not self.split.training.num_windows:
            raise DataError(
                f"no series is longer than min_context={windows.min_context} steps, so there is nothing "
                f"to learn; "
                f"the longest has {int(panel.lengths.max())}. Send longer histories."
            )
        self.config, self.network = config, network.to(device)
        self.sampler = Sampler(panel, windows, device=device, weights=weights, calendar=bool(spec.calendar))
        self.training = DeviceIndex(self.split.training, self.sampler.storage)
        self.validation = DeviceIndex(self.split.validation, self.sampler.storage)
        self.plan = in_epochs(self.plan, config, num_windows=self.training.num_epoch_windows)
        _measure_covariates(network, panel)
        self._measure_values()
        self._measure_sizes()
        told = [panel.fingerprint(), spec.to_dict(), config.seed, asdict(self.plan), held_out]
        self.fingerprint = sha256(dumps(told, sort_keys=True).encode()).hexdigest()

    def run(self, listener: Listener | None, *, resume_from: Path | None) -> int:
        """Train every member; the steps that their weights saw, on average."""
        resumed = None if resume_from is None else self._read(resume_from)
        first = 0 if resumed is None else int(resumed.state["member"])
        steps = [] if resumed is None else list(resumed.state["steps"])
        if resumed is not None:
            self.network.load_state_dict(resumed.group("network"))
        for member in range(first, len(self.network.members)):
            training = self._training(member, listener)
            if resumed is not None and member == first:
                training.restore(
                    Checkpoint(tensors=resumed.group("training"), state=resumed.state["training"])
                )
            progress = Progress(
                self.config.progress, num_steps=self.plan.num_steps, label=self._label(member)
            )
            try:
                steps.append(training.run(progress, save=self._saver(training, steps)).best_step)
            finally:
                progress.close()
        self.reasons |= self._settle(training.step) if self.plan.num_steps else settle_untrained(self.network)
        return round(float(np.mean(steps)))

    def _settle(self, step: Step) -> dict[str, str]:
        return settle_median(
            step,
            self.sampler,
            training=self.training,
            held_out=self.validation,
            num_spans=num_spans(self.split.held_out, horizon=self.network.spec.horizon),
        )

    def _training(self, member: int, listener: Listener | None) -> Training:
        torch.manual_seed(self.config.seed * 7919 + member)
        self.network.members[member].train()
        return Training(
            self.network,
            member,
            sampler=self.sampler,
            training=self.training,
            validation=self.validation,
            plan=self.plan,
            config=self.config,
            listener=listener,
        )

    def _label(self, member: int) -> str:
        name, count = self.network.spec.backbone, len(self.network.members)
        return name if count == 1 else f"{name} {member + 1} of {count}"

    def _saver(self, training: Training, steps: list[int]) -> Callable[[], None] | None:
        folder = self.config.checkpoint
        if folder is None:
            return None

        def save() -> None:
            own = training.checkpoint()
            tensors = {f"training.{name}": value for name, value in own.tensors.items()}
            tensors |= {f"network.{name}": value for name, value in self.network.state_dict().items()}
            state = {
                "fingerprint": self.fingerprint,
                "member": training.member,
                "steps": steps,
                "training": own.state,
            }
            try:
                write(Checkpoint(tensors=tensors, state=state), folder)
            except OSError as error:
                warnings.warn(
                    f"no checkpoint could be written into {folder} ({error}); the training goes on, but "
                    "could not be resumed from here. Make room, or choose another folder.",
                    RuntimeWarning,
                    stacklevel=2,
                )

        return save

    def _read(self, folder: Path) -> Checkpoint:
        checkpoint = read(folder)
        if checkpoint.state.get("fingerprint") != self.fingerprint:
            raise ArtifactError(
                f"the checkpoint in {folder} belongs to other data, another spec or another plan; resume "
                f"with what "
                "the interrupted training was given, or start without resume_from."
            )
        return checkpoint

    def _measure_values(self) -> None:
        """The one centre and scale of a model that scales no window by itself, from its training windows."""
        if self.network.spec.scaling != "none":
            return
        batch = self.sampler.windows(self.training, self.training.spread(4096))
        with torch.no_grad():
            window = self.network.read(batch.context, batch.level)
            center, size = _overall(window.scores, window.observed)
        self.network.fixed_center.copy_(center)
        self.network.fixed_size.copy_(size)

    def _measure_sizes(self) -> None:
        """The scale that windows of each series usually have, from a few of its training windows.

        Errors of logarithms are shares of the level, the same in every series: there restless series count
        more than quiet ones, by half of what they differ.
        """
        index, storage = self.training, self.sampler.storage
        counts = index.ends - index.befores
        most = max(1, min(SIZED_WINDOWS, MAX_SIZED_WINDOWS // len(counts)))
        places = (torch.arange(most, device=storage) + 0.5) / most
        total, found = torch.zeros_like(self.sampler.usual_sizes), torch.zeros_like(self.sampler.usual_sizes)
        for place in places:
            numbers = index.befores + (place * counts).long()
            for series in torch.split(torch.nonzero(counts > 0)[:, 0], SIZED_AT_ONCE):
                batch = self.sampler.windows(index, numbers[series])
                with torch.no_grad():
                    size = self.network.read(batch.context, batch.level).scale.size[:, 0].to(storage)
                total[series] += size
                found[series] += size > 0
        usual = total / found.clamp(min=1)
        comparable = self.network.spec.transform in POSITIVE_TRANSFORMS
        self.sampler.usual_sizes = halfway_to_typical(usual) if comparable else usual


def halfway_to_typical(sizes: torch.Tensor) -> torch.Tensor:
    """Positive sizes (N,) moved half the way to their median, by ratio; 0, which is unknown, stays."""
    known = sizes[sizes > 0]
    return (sizes * known.median()).sqrt() if len(known) else sizes


def _overall(values: torch.Tensor, observed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    seen = values[observed].double()
    size = seen.std() if len(seen) > 1 else seen.new_ones(())
    return seen.mean().float(), torch.where(size > 0, size, torch.ones_like(size)).float()


def _forecaster(
    panel: Panel, spec: ModelSpec, reasons: dict[str, str], *, backend: Backend, num_steps: int
) -> Forecaster:
    covariates = {
        "past": list(spec.past or ()),
        "known": list(spec.known or ()),
        "static": [*(spec.static_numeric or ()), *(spec.static_categories or {})],
    }
    info = ForecasterInfo.of(panel, spec, reasons=reasons, covariates=covariates, num_steps=num_steps)
    return Forecaster(
        info=info,
        backend=backend,
        calibration=Calibration.none(spec.horizon, spec.quantile_levels),
        identity=Identity.of(panel),
    )


def _left_out(panel: Panel, windows: WindowSpec, starts: NDArray[np.int64]) -> dict[str, str]:
    """Which series are too short to learn from, said where the reasons are."""
    short = panel.lengths - starts <= windows.min_context
    if not short.any():
        return {}
    ids = [str(each) for each in panel.unique_ids[short][:MAX_NAMED]]
    more = f" and {int(short.sum()) - MAX_NAMED} more" if short.sum() > MAX_NAMED else ""
    return {
        "left_out": f"{int(short.sum())} series without a step after min_context={windows.min_context}: "
        f"{', '.join(ids)}{more}"
    }


def _with_covariates(panel: Panel, spec: ModelSpec) -> Panel:
    """The panel with the covariates that the spec names, each in its place; CovariateError without one."""
    return panel.with_covariates(
        past=spec.past or (),
        known=spec.known or (),
        static_numeric=spec.static_numeric or (),
        static_categories=spec.static_categories,
    )


def _checked_weights(weights: NDArray[np.float32] | None, num_series: int) -> NDArray[np.float32] | None:
    """Weights (N,), not negative and not all zero; DataError otherwise."""
    if weights is None:
        return None
    try:
        checked = np.asarray(weights, dtype=np.float32)
    except (TypeError, ValueError):
        raise DataError(f"weights are {num_series} numbers, one per series; got {weights!r:.80}.") from None
    if (
        checked.shape != (num_series,)
        or not np.isfinite(checked).all()
        or checked.min() < 0
        or not checked.any()
    ):
        raise DataError(
            f"weights are {num_series} numbers, one per series, none below zero and not all zero; got an "
            f"array of shape {checked.shape} from {checked.min(initial=np.inf):g} to "
            f"{checked.max(initial=-np.inf):g}."
        )
    return checked


def _check_domain(panel: Panel, spec: ModelSpec) -> None:
    if spec.transform not in ("log", "relative"):
        return
    lowest = panel.lowest()
    wrong = panel.unique_ids[lowest <= 0]
    if len(wrong):
        ids = ", ".join(repr(str(each)) for each in wrong[:MAX_NAMED])
        raise ValueRangeError(
            f"transform={spec.transform!r} needs values above zero and the lowest is "
            f"{np.nanmin(lowest):g}, in "
            f"{ids}; choose transform='asinh' or 'none', or leave these series out."
        )


def _measure_covariates(network: ForecastNetwork, panel: Panel) -> None:
    """Centre and scale of every numeric covariate over the training steps, into the network."""
    for name, rows in (("past", panel.past), ("known", panel.known)):
        if not len(rows):
            continue
        lengths = np.minimum(rows.lengths, panel.lengths)
        flat = flat_indices(rows.begins, lengths)
        owner = np.repeat(np.arange(len(panel)), lengths)
        units = rows.offsets[:, owner] + rows.scales[:, owner] * rows.values[:, flat]
        _store(network, name, units)
    if panel.static.numeric_names:
        _store(network, "static", panel.static.numeric.T)


def _store(network: ForecastNetwork, name: str, units: NDArray[np.floating]) -> None:
    observed = np.where(np.isfinite(units), units, np.nan).astype(np.float64)
    missing = np.isnan(observed).all(axis=1)
    observed[missing] = 0.0
    center, size = np.nanmean(observed, axis=1), np.nanstd(observed, axis=1)
    size = np.where(size > 0, size, 1.0)
    for member in network.members:
        getattr(member, f"{name}_center").copy_(torch.from_numpy(center[:, None]))
        getattr(member, f"{name}_size").copy_(torch.from_numpy(size[:, None]))
