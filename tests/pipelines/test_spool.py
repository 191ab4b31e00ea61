"""A tracking server that goes away while models are trained."""

from pathlib import Path

import pytest

from forecast.errors import TrackingError
from pipelines import spool, tracking


@pytest.fixture
def experiment(tracked: Path) -> str:
    return tracking.experiment("shop")


def goes_away(patch: pytest.MonkeyPatch) -> None:
    def closed(uri: str) -> None:
        raise TrackingError("nobody listens")

    patch.setattr(tracking, "_require_open_port", closed)


def test_what_is_logged_without_a_server_is_delivered_by_the_next_command(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch, tracking.run(experiment, name="retrain") as parent:
        parent.params({"seed": 0})
        with tracking.run(experiment, name="gru", parent=parent) as first:
            first.metrics({"wql": 0.5})
            goes_away(patch)
            first.metric_by_step("mae_by_step", [1.0, 2.0])
            first.json({"why": "by rule"}, "reasons.json")
        with tracking.run(experiment, name="lstm", parent=parent) as second:
            second.tags({"forecast.role": "candidate"})
            second.metrics({"wql": 0.25})
        with pytest.raises(TrackingError):
            second.settle()
    assert "is kept in" in capsys.readouterr().err
    assert len(spool.waiting()) == 3  # the parent's end, the rest of the first child, all of the second

    tracking._client.cache_clear()  # as a new command
    found = tracking.client().get_run(parent.run_id)
    assert spool.waiting() == []
    assert found.info.status == "FINISHED"
    children = tracking.children(found)
    assert [child.info.run_name for child in children] == ["gru", "lstm"]
    assert [child.data.metrics["wql"] for child in children] == [0.5, 0.25]
    assert children[0].data.metrics["mae_by_step"] == 2.0
    assert children[1].data.tags["forecast.role"] == "candidate"
    assert {child.info.status for child in children} == {"FINISHED"}
    files = tracking.client().list_artifacts(children[0].info.run_id)
    assert [file.path for file in files] == ["reasons.json"]


def test_a_server_that_comes_back_gets_everything_before_a_model_is_registered(experiment: str) -> None:
    with tracking.run(experiment, name="retrain") as parent:
        with pytest.MonkeyPatch.context() as patch:
            goes_away(patch)
            with tracking.run(experiment, name="gru", parent=parent) as child:
                child.metrics({"wql": 0.5})
        child.settle()
        assert tracking.client().get_run(child.run_id).data.metrics == {"wql": 0.5}
    assert spool.waiting() == []


def test_what_another_process_still_writes_waits(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracking.run(experiment, name="retrain") as run:
        kept = spool.Spool.begin({"run_id": run.run_id, "tracking_uri": "here"})
        kept.append({"kind": "tags", "items": [["a", "b"]]})
        kept.write_header({**kept.header, "pid": 1})
        assert kept.is_being_written()
        kept.append({"kind": "end", "status": "FINISHED", "time": 0})
        assert not kept.is_being_written()
