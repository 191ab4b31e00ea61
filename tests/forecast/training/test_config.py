"""What a training config accepts, refuses and writes down."""

import json
from pathlib import Path

import pytest

from forecast.errors import SpecError
from forecast.training.config import TrainConfig


def test_a_config_survives_json() -> None:
    config = TrainConfig(seed=3, max_seconds=2.5, checkpoint=Path("there"))
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("max_steps", -1, "max_steps is a whole number from 0 on; got -1"),
        ("max_epochs", 2.5, "max_epochs is a whole number from 0 on; got 2.5"),
        ("batch_size", 0, "batch_size is a whole number from 1 on; got 0"),
        ("seed", True, "seed is a whole number from 0"),
        ("learning_rate", "a", "learning_rate is above zero; got 'a'"),
        ("clip_norm", None, "clip_norm is above zero; got None"),
        ("checkpoint_seconds", "x", "checkpoint_seconds is not below zero"),
        ("checkpoint_seconds", None, "checkpoint_seconds is not below zero"),
        ("averaging", "x", "averaging is a share"),
        ("weight_decay", "x", "weight_decay is not below zero"),
        ("checkpoint", 5, "checkpoint is the path of a folder; got 5"),
        ("device", 5, "device is one of auto, cpu, cuda"),
        ("max_seconds", 0, "max_seconds is above zero"),
        ("truncate_share", 2, "truncate_share is a share"),
        ("flip_share", -0.5, "flip_share is a share"),
        ("device", "tpu", "device is one of auto, cpu, cuda"),
        ("schedule", "step", "schedule is one of cosine"),
        ("seed", -1, "seed is a whole number from 0"),
        ("seed", "x", "seed is a whole number from 0"),
        ("clip_norm", 0, "clip_norm is above zero"),
        ("weight_decay", -0.1, "weight_decay is not below zero"),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TrainConfig(**{field: value})  # type: ignore[arg-type]


def test_a_folder_may_be_named_by_a_string() -> None:
    assert TrainConfig(checkpoint="there").checkpoint == Path("there")  # type: ignore[arg-type]


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(SpecError, match="has no sed"):
        TrainConfig.from_dict({"sed": 1})
