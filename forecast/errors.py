"""Every error that forecast raises on purpose, as one tree.

ForecastError
├── DataError                 the data given cannot be used as it is
│   ├── ColumnsError          columns missing, unknown or of the wrong type
│   ├── EmptyDataError        no rows, or nothing but missing values
│   ├── DuplicateStampsError  one series has the same stamp twice
│   ├── FrequencyError        unknown, not inferable, mixed, or not the model's
│   │   └── OffGridError      a stamp lies beside the grid of its frequency
│   ├── TimeZoneError         mixed or unknown time zones
│   ├── ValueRangeError       infinite, too large, or outside a transform's domain
│   ├── ContextError          a history shorter than the model needs
│   ├── CovariateError        a covariate missing, unknown or of the wrong length
│   └── CheckError            data that differs too much from what it was, or is too old, to train on
├── SpecError                 a model, training or recipe setting that makes no sense
│   ├── HorizonError          a horizon below 1 or beyond the model's limit
│   └── LevelError            a level outside (0, 100) or a quantile outside (0, 1)
├── ArtifactError             a saved model that cannot be read
├── NotFoundError             no model, version, alias, recipe or data set of that name
├── TrainingError             training ended without a usable model
├── SourceError               the place that the data comes from cannot be reached
├── BudgetError               a retrain needs more time or memory than its recipe allows
├── TrackingError             the MLflow server or its database cannot be used
└── LockedError               another run holds the lock

A message says what was wrong, what was got, and what to do. The command line turns `exit_code` into its
own; the service maps types to HTTP statuses.
"""


class ForecastError(Exception):
    """The root: catch it to catch everything that forecast raises on purpose."""

    exit_code = 1


class DataError(ForecastError):
    """The data given cannot be used as it is."""

    exit_code = 2


class ColumnsError(DataError):
    """Columns are missing, unknown or of the wrong type."""


class EmptyDataError(DataError):
    """There are no rows, or nothing but missing values."""


class DuplicateStampsError(DataError):
    """One series has the same stamp twice and no policy says which row counts."""


class FrequencyError(DataError):
    """A frequency is unknown, cannot be inferred, is mixed, or is not the model's."""


class OffGridError(FrequencyError):
    """A stamp lies beside the grid of its frequency."""


class TimeZoneError(DataError):
    """Time zones are mixed or unknown."""


class ValueRangeError(DataError):
    """A value is infinite, too large to hold, or outside the domain of a transform."""


class ContextError(DataError):
    """A history is shorter than the model's `min_context`."""


class CovariateError(DataError):
    """A covariate is missing, unknown or of the wrong length."""


class CheckError(DataError):
    """Data differs too much from what it was last time, or is too old, to train on."""


class SpecError(ForecastError):
    """A model, training or recipe setting that makes no sense."""

    exit_code = 2


class HorizonError(SpecError):
    """A horizon below 1 or beyond the model's limit."""


class LevelError(SpecError):
    """A level outside (0, 100) or a quantile outside (0, 1)."""


class ArtifactError(ForecastError):
    """A saved model cannot be read: wrong format version, missing file, damaged tensors."""


class NotFoundError(ForecastError):
    """There is no model, version, alias, recipe or data set of that name."""

    exit_code = 2


class TrainingError(ForecastError):
    """Training ended without a usable model."""


class SourceError(ForecastError):
    """The place that the data comes from cannot be reached, or broke off."""


class BudgetError(ForecastError):
    """A retrain needs more time or memory than its recipe allows."""


class TrackingError(ForecastError):
    """The MLflow server or its database cannot be used."""


class LockedError(ForecastError):
    """Another run holds the lock."""

    exit_code = 75
