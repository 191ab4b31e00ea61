"""The artifact folder: what goes in comes out, and damage is refused."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forecast.errors import ArtifactError, SpecError
from forecast.models.artifact import digest, load, save
from forecast.models.baselines import BASELINES, baseline_forecaster
from forecast.models.calibration import Calibration
from forecast.models.forecaster import Forecaster
from forecast.models.spec import ModelSpec
from forecast.series.panel import Panel

REFERENCE = Path(__file__).parents[2] / "reference" / "artifact_v1"


def panel(seed: int = 0, length: int = 60) -> Panel:
    y = 100 + np.cumsum(np.random.default_rng(seed).normal(size=length))
    return Panel.from_arrays(["a"], [y], freq="MS", starts=["2020-01-01"])


def forecaster(backbone: str = "drift") -> Forecaster:
    fitted = baseline_forecaster(panel(), ModelSpec(backbone=backbone, horizon=3))
    levels = fitted.quantile_levels
    grid = np.linspace(-2, 2, len(levels), dtype=np.float32)[None].repeat(3, axis=0)
    table = Calibration(quantile_levels=levels, corrections=grid, num_windows=40, growth=0.3)
    return replace(fitted, calibration=table)


@pytest.mark.parametrize("backbone", list(BASELINES))
def test_a_saved_forecaster_predicts_the_same(backbone: str, tmp_path: Path) -> None:
    own = forecaster(backbone)
    again = load(save(own, tmp_path / "model"))
    history = panel(seed=1)
    assert (again.predict(history, 9).values == own.predict(history, 9).values).all()
    assert again.predict(history, 9).notes == own.predict(history, 9).notes
    assert again.calibration.num_windows == 40
    assert again.calibration.growth == 0.3


def test_whoever_may_read_one_file_may_read_all(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = save(forecaster(), tmp_path / "model")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_it_still_knows_its_series(tmp_path: Path) -> None:
    again = load(save(forecaster(), tmp_path / "model"))
    assert "in_sample" in again.predict(panel().head([40])).notes[0]


def test_the_folder_holds_the_named_files_and_no_training_value(tmp_path: Path) -> None:
    folder = save(forecaster(), tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["spec.json", "weights.safetensors"]
    spec = json.loads((folder / "spec.json").read_text())
    assert spec["format_version"] == 2
    assert spec["trained_until"] == "2024-12-01T00:00:00"
    content = (folder / "weights.safetensors").read_bytes()
    for value in panel().y(0):
        assert np.float64(value).tobytes() not in content
    assert not any(np.float32(v).tobytes() * 2 in content for v in panel().y(0))


def test_the_same_forecaster_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = save(forecaster(), tmp_path / "one"), save(forecaster(), tmp_path / "two")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert digest(first) == digest(second)
    assert digest(first) != digest(save(forecaster("naive"), tmp_path / "three"))
    assert digest(save(load(first), tmp_path / "four")) == digest(first)


def test_an_empty_folder_is_filled_and_a_full_one_is_kept(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    save(forecaster(), tmp_path / "empty")
    with pytest.raises(ArtifactError, match="not an empty folder"):
        save(forecaster("naive"), tmp_path / "empty")
    assert load(tmp_path / "empty").info.model["backbone"] == "drift"


def test_an_empty_folder_behind_a_link_is_filled(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    save(forecaster(), tmp_path / "link")
    assert load(tmp_path / "link").horizon == load(tmp_path / "there").horizon == 3
    assert (tmp_path / "link").is_symlink()


def test_a_place_where_no_folder_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match=r"no folder can be made at .*/file/model"):
        save(forecaster(), tmp_path / "file" / "model")


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    broken = replace(forecaster(), info=replace(forecaster().info, reasons={"x": float("nan")}))  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="JSON"):
        save(broken, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_another_format_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = save(forecaster(), tmp_path / "model")
    change(folder, format_version=3)
    with pytest.raises(ArtifactError, match=r"format version 3 .* reads 1 to 2; upgrade the package"):
        load(folder)
    change(folder, format_version=1)
    assert load(folder).horizon == forecaster().horizon


def change(folder: Path, **fields: object) -> None:
    path = folder / "spec.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"surprise": 1}, "unknown keys: surprise"),
        ({"model": {"backbone": "oracle", "horizon": 3}}, "cannot build"),
        ({"files": {}}, "names no weights"),
        ({"files": {"weights.safetensors": "0", "../secret": "0"}}, "damaged|lacks"),
        ({"quantile_levels": [0.5]}, "shape"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(
    fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    folder = save(forecaster(), tmp_path / "model")
    change(folder, **fields)
    with pytest.raises(ArtifactError, match=message):
        load(folder)


def test_a_flipped_byte_anywhere_is_found(tmp_path: Path) -> None:
    folder = save(forecaster(), tmp_path / "model")
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    for place in (0, 9, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ArtifactError, match="damaged"):
            load(folder)


@pytest.mark.parametrize("name", ["spec.json", "weights.safetensors"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = save(forecaster(), tmp_path / "model")
    os.remove(folder / name)
    with pytest.raises(ArtifactError, match=name.split(".", maxsplit=1)[0]):
        load(folder)


def test_what_is_no_json_or_no_object_is_refused(tmp_path: Path) -> None:
    folder = save(forecaster(), tmp_path / "model")
    for content, message in (("{", "cannot be read as JSON"), ("[]", "holds a list")):
        (folder / "spec.json").write_text(content)
        with pytest.raises(ArtifactError, match=message):
            load(folder)


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="auto, onnx, torch"):
        load(save(forecaster(), tmp_path / "model"), runtime="jax")


@pytest.mark.parametrize("runtime", ["torch", "onnx", "auto"])
def test_the_first_release_still_loads_and_says_the_same(runtime: str) -> None:
    if runtime == "onnx":
        pytest.importorskip("onnxruntime")
    expected = json.loads((REFERENCE.parent / "expected.json").read_text())
    own = load(REFERENCE, runtime=runtime)
    history = Panel.from_arrays(
        expected["unique_ids"], expected["y"], freq=expected["freq"], starts=expected["starts"]
    )
    answer = own.predict(history, expected["horizon"])
    assert np.asarray(answer.values) == pytest.approx(np.array(expected["values"]), rel=1e-4, abs=1e-4)
    assert [list(notes) for notes in answer.notes] == expected["notes"]
    assert [str(stamp) for stamp in answer.ds[0]] == expected["ds"]
