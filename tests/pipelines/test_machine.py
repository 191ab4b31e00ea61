"""System metrics: what a training asks of its machine."""

import shutil
import time
from pathlib import Path

import pytest

from pipelines import machine, tracking


def test_a_sampler_sees_processor_and_memory_as_time_goes_by() -> None:
    with machine.Sampler() as sampler:
        time.sleep(1.6)
    points = list(sampler.points())
    assert [point["step"] for point in points] == list(range(len(points)))
    assert len(points) >= 2
    for point in points:
        assert 0 <= (point["system/cpu_utilization_percentage"] or 0) <= 100
        assert (point["system/process_memory_usage_megabytes"] or 0) > 10
    assert (points[0]["at"] or 0) < (points[-1]["at"] or 0)


def test_samples_are_logged_with_their_time(tracked: Path) -> None:
    with tracking.run(tracking.experiment("shop"), name="gru") as run:
        run.curve([{"step": number, "at": 1000 + number, "system/x": float(number)} for number in (0, 1)])
    found = tracking.client().get_metric_history(run.run_id, "system/x")
    assert [(each.step, each.timestamp, each.value) for each in found] == [(0, 1000, 0.0), (1, 1001, 1.0)]


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    assert machine._read("0, 37, 1024, 250.5\n1, [N/A], 2048, [N/A]\n") == {
        "system/gpu_0_utilization_percentage": 37.0,
        "system/gpu_0_memory_usage_megabytes": 1024.0,
        "system/gpu_0_power_usage_watts": 250.5,
        "system/gpu_1_memory_usage_megabytes": 2048.0,
    }


@pytest.mark.gpu
def test_a_gpu_is_seen() -> None:
    if shutil.which("nvidia-smi") is None:
        pytest.skip("needs an NVIDIA GPU")
    assert (machine.gpus()["system/gpu_0_memory_usage_megabytes"] or 0) >= 0
