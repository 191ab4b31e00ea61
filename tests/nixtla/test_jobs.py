"""Jobs of the real client: submitted, fetched, cancelled, and kept when the service ends."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from nixtla import ApiError, JobError, NixtlaClient

from service.errors import Problem
from service.jobs import LEASE_SECONDS, MAX_ATTEMPTS, JobStore, Result
from service.settings import Settings
from tests.nixtla.live import client_of, live, monthly
from tests.service.builders import Registry, baseline

pytestmark = [
    pytest.mark.filterwarnings("ignore:detect_anomalies:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning"),
]
FAST: dict[str, Any] = {"poll_interval": 0.05, "poll_timeout": 60}


def test_a_job_comes_to_what_the_call_answers(client: NixtlaClient, df: pd.DataFrame) -> None:
    forecast: dict[str, Any] = {"h": 4, "freq": "MS", "level": [80], "model": "air"}
    job = client.jobs.forecast(df, **forecast)
    pd.testing.assert_frame_equal(job.wait(**FAST), client.forecast(df, **forecast))
    assert job.status == "succeeded"
    replayed: dict[str, Any] = {"h": 3, "freq": "MS", "n_windows": 2, "model": "air"}
    job = client.jobs.cross_validation(df, **replayed)
    pd.testing.assert_frame_equal(job.wait(**FAST), client.cross_validation(df, **replayed))
    online: dict[str, Any] = {"h": 2, "detection_size": 6, "freq": "MS", "model": "air"}
    job = client.jobs.detect_anomalies(df, **online)
    pd.testing.assert_frame_equal(job.wait(**FAST), client.detect_anomalies_online(df, **online))


def test_partitions_can_be_jobs_of_their_own(client: NixtlaClient) -> None:
    df = monthly(60, ids=("a", "b", "c"))
    asked: dict[str, Any] = {"h": 2, "freq": "MS", "model": "air", "add_history": True, "num_partitions": 3}
    found = client.forecast(df, **asked, _is_async_job=True, _poll_interval=0.05)
    pd.testing.assert_frame_equal(found, client.forecast(df, **asked), rtol=1e-6)


def test_a_job_that_cannot_be_is_refused_when_it_is_submitted(client: NixtlaClient, df: pd.DataFrame) -> None:
    usual: dict[str, Any] = {"h": 2, "freq": "MS", "model": "air"}
    for asked, status in (({"model": "gone"}, 404), ({"h": 1000}, 422), ({"finetune_steps": 3}, 501)):
        with pytest.raises(ApiError) as refused:
            client.jobs.forecast(df, **{**usual, **asked})
        assert refused.value.status_code == status
    with pytest.raises(ApiError, match="from 1 to 3600 s"):
        client.jobs.forecast(df, h=2, freq="MS", model="air", job_timeout_seconds=10**6)


def test_a_job_that_fails_says_why(client: NixtlaClient) -> None:
    job = client.jobs.forecast(monthly(5), h=2, freq="MS", model="air")
    with pytest.raises(JobError, match="at least 12 observed values and got 5"):
        job.wait(**FAST)
    assert job.status == "failed"


def test_unknown_and_finished_jobs(client: NixtlaClient, url: str, df: pd.DataFrame) -> None:
    assert httpx.get(f"{url}/v2/forecast/jobs/none").status_code == 404
    assert httpx.post(f"{url}/v2/async/jobs/none/cancel").status_code == 404
    job = client.jobs.forecast(df, h=2, freq="MS", model="air")
    job.wait(**FAST)
    assert httpx.get(f"{url}/v2/cross_validation/jobs/{job.job_id}").status_code == 404
    with pytest.raises(ApiError, match="succeeded already"):
        job.cancel()


def long_job(client: NixtlaClient) -> Any:
    """A job of some seconds."""
    df = monthly(400, ids=tuple(f"s{place:03d}" for place in range(40)), start="1950-01-01")
    return client.jobs.cross_validation(df, h=1, step_size=1, n_windows=300, freq="MS", model="air")


def test_a_cancelled_job_is_computed_no_further(client: NixtlaClient, url: str) -> None:
    job = long_job(client)
    job.cancel()
    assert httpx.post(f"{url}/v2/async/jobs/{job.job_id}/cancel").status_code == 200, "once more does no harm"
    found = httpx.get(f"{url}/v2/cross_validation/jobs/{job.job_id}").json()
    assert (found["status"], found["result"]) == ("cancelled", None)
    assert len(client.jobs.forecast(monthly(), h=2, freq="MS", model="air").wait(**FAST)) == 2


def test_a_restart_loses_no_job(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    settings = Settings(jobs_running=1)
    with live(settings) as url:
        client = client_of(url)
        jobs = [long_job(client), client.jobs.forecast(monthly(), h=2, freq="MS", model="air")]
    registry.add("air", "2", baseline("naive"), "champion")
    with live(settings) as url:
        endpoints = ("cross_validation", "forecast")
        results = []
        for job, endpoint in zip(jobs, endpoints, strict=True):
            while (found := httpx.get(f"{url}/v2/{endpoint}/jobs/{job.job_id}").json())["status"] in (
                "pending",
                "running",
            ):
                time.sleep(0.05)
            results.append(found)
        assert [found["status"] for found in results] == ["succeeded"] * 2
        assert len(results[0]["result"]["mean"]) == 40 * 300
        same = client_of(url).forecast(monthly(), h=2, freq="MS", model="air/1")
        np.testing.assert_allclose(results[1]["result"]["mean"], same["TimeGPT"], rtol=1e-9)


def test_results_expire_and_time_is_limited(registry: Registry) -> None:
    registry.add("air", "1", baseline(), "champion")
    with live(Settings(jobs_keep_seconds=0.3)) as url:
        job = client_of(url).jobs.forecast(monthly(), h=2, freq="MS", model="air")
        job.wait(**FAST)
        time.sleep(0.4)
        assert httpx.get(f"{url}/v2/forecast/jobs/{job.job_id}").status_code == 404
    with live(Settings(job_seconds=0.001)) as url, pytest.raises(JobError, match=r"not done within 0\.001 s"):
        long_job(client_of(url)).wait(**FAST)


@pytest.mark.parametrize("task", ["simulate", "explain", "finetune"])
def test_what_is_not_done_says_what_to_do_instead(client: NixtlaClient, df: pd.DataFrame, task: str) -> None:
    needed: dict[str, dict[str, Any]] = {"simulate": {"h": 2, "model": "air"}, "finetune": {"model": "air"}}
    more = needed.get(task, {})
    words = {"simulate": "quantiles", "explain": "compare recipes", "finetune": "forecast retrain"}[task]
    for where in (client, client.jobs):
        with pytest.raises(ApiError, match=words) as refused:
            getattr(where, task)(df.assign(price=1.0), freq="MS", **more)
        assert refused.value.status_code == 501


def test_feature_contributions_are_refused(client: NixtlaClient, df: pd.DataFrame) -> None:
    with pytest.raises(ApiError, match="share of each feature") as refused:
        client.forecast(
            df.assign(x=1.0), h=2, freq="MS", model="air", hist_exog_list=["x"], feature_contributions=True
        )
    assert refused.value.status_code == 501


# The list itself


def test_no_more_jobs_are_taken_than_may_wait(tmp_path: Path) -> None:
    store = JobStore(Settings(jobs_waiting=2), tmp_path / "jobs.db")
    first = store.submit("forecast", "air/1", b"{}", timeout=1)
    store.submit("forecast", "air/1", b"{}", timeout=1)
    with pytest.raises(Problem) as refused:
        store.submit("forecast", "air/1", b"{}", timeout=1)
    assert "2 jobs wait" in refused.value.detail
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "5")
    store.cancel(first)
    store.submit("forecast", "air/1", b"{}", timeout=1)


def test_old_results_make_room_and_waiting_jobs_do_not(tmp_path: Path) -> None:
    store = JobStore(Settings(jobs_bytes=100), tmp_path / "jobs.db")
    done = store.submit("forecast", "air/1", b"x" * 60, timeout=1)
    assert store.claim() is not None
    store.finish(done, result=Result(b"y" * 60))
    store.submit("forecast", "air/1", b"x" * 60, timeout=1)
    assert store.find(done) is None, "the oldest result goes"
    with pytest.raises(Problem) as refused:
        store.submit("forecast", "air/1", b"x" * 60, timeout=1)
    assert "all the space" in refused.value.detail


def test_a_job_of_a_process_that_is_gone_is_taken_up_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (JobStore(Settings(), tmp_path / "jobs.db") for _ in range(2))
    job_id = one.submit("forecast", "air/1", b"{}", timeout=1)
    held = one.claim()
    assert held is not None
    assert two.claim() is None, "one holds it"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + LEASE_SECONDS + 1)
    again = two.claim()
    assert again == held
    assert one.renew([job_id]) == {job_id}, "it is no longer one's"
    one.finish(job_id, error="too late")
    two.finish(job_id, result=Result(b"1"))
    found = two.find(job_id)
    assert found is not None
    assert (found.status, found.result) == ("succeeded", b"1")


def test_a_job_that_ends_the_process_each_time_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JobStore(Settings(), tmp_path / "jobs.db")
    job_id = store.submit("forecast", "air/1", b"{}", timeout=1)
    start = time.time()
    for attempt in range(MAX_ATTEMPTS):
        assert store.claim() is not None
        later = start + (attempt + 1) * (LEASE_SECONDS + 1)
        monkeypatch.setattr(time, "time", lambda later=later: later)
    assert store.claim() is None
    found = store.find(job_id)
    assert found is not None
    assert found.status == "failed"
    assert "3 times" in (found.error or "")


def test_a_list_of_an_earlier_release_is_used_on(tmp_path: Path) -> None:
    store = JobStore(Settings(), tmp_path / "jobs.db")
    before = store.submit("forecast", "air/1", b"{}", timeout=9)
    store.close()
    with sqlite3.connect(tmp_path / "jobs.db") as db:
        db.execute("ALTER TABLE jobs DROP COLUMN headers")
    db.close()
    claimed = store.claim()
    assert claimed is not None
    store.finish(before, result=Result(b"{}", {"x-forecast-model": "air/1"}))
    found = store.find(before)
    assert found is not None
    assert (found.status, found.headers) == ("succeeded", {"x-forecast-model": "air/1"})
    store.close()


def test_jobs_given_back_are_pending_again_and_expiry_forgets(tmp_path: Path) -> None:
    store = JobStore(Settings(jobs_keep_seconds=0.01), tmp_path / "jobs.db")
    assert not store.exists()
    job_id = store.submit("forecast", "air/1", b"{}", timeout=1)
    store.claim()
    store.release()
    found = store.find(job_id)
    assert found is not None
    assert found.status == "pending"
    store.cancel(job_id)
    time.sleep(0.02)
    assert store.expire() == 1
    store.close()
