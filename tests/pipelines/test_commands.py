"""The commands as a user types them: what they print, and how bad input ends."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from forecast import home
from pipelines import registry, tracking
from pipelines.lock import recipe_lock
from tests.pipelines.conftest import Command, Trained, sales, write_recipe


def refused(ended: object, *words: str) -> None:
    """One line on stderr that holds all `words`, exit code 2 and nothing on stdout."""
    code, out, err = (getattr(ended, name) for name in ("code", "out", "err"))
    assert (code, out) == (2, ""), err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in lines[0]


def test_the_data_sets_are_listed_with_their_source(forecast: Command) -> None:
    ended = forecast("datasets")
    assert ended.code == 0
    assert "air_passengers: " in ended.out
    assert "Box" in ended.out


def test_help_comes_without_the_heavy_packages() -> None:
    code = (
        "import sys\nfrom forecast.cli import main\nsys.argv = ['forecast', 'retrain', '--help']\n"
        "try:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'pandas', 'mlflow', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--dry-run" in ended.stdout
    assert ended.stderr.splitlines()[-1] == "[]"


def test_models_are_listed_as_a_table_and_as_json(trained: Trained, forecast: Command) -> None:
    table = forecast("models").out
    for word in ("shop", "champion", "seasonal_naive", "2026-04-30"):
        assert word in table
    row = json.loads(forecast("models", "--json").out)["models"][0]
    assert (row["name"], row["version"], row["aliases"], row["horizon"]) == ("shop", "1", ["champion"], 7)
    assert row["metrics"]["wql"] > 0


def test_an_empty_registry_says_how_to_fill_it(tracked: Path, forecast: Command) -> None:
    assert "forecast retrain air_passengers" in forecast("models").out
    assert json.loads(forecast("models", "--json").out) == {"models": []}


@pytest.fixture
def history(tmp_path: Path) -> Path:
    sales().to_parquet(tmp_path / "history.parquet")
    return tmp_path / "history.parquet"


@pytest.mark.parametrize("model", ["shop", "shop@champion", "shop/1"])
def test_predict_reads_a_file_as_the_model_was_trained(
    trained: Trained, forecast: Command, history: Path, tmp_path: Path, model: str
) -> None:
    output = tmp_path / "out" / "forecast.parquet"
    ended = forecast(
        "predict", "--model", model, "--data", history, "--horizon", 3, "--level", 90, "--output", output
    )
    assert (ended.code, ended.out) == (0, "")
    frame = pd.read_parquet(output)
    assert list(frame.columns) == ["unique_id", "ds", "median", "lo-90", "hi-90"]
    assert (len(frame), frame["ds"].min()) == (6, pd.Timestamp("2026-05-01"))


def test_predict_takes_other_columns(trained: Trained, forecast: Command, tmp_path: Path) -> None:
    data = tmp_path / "other.parquet"
    sales().rename(columns={"shop": "branch", "day": "date", "units": "sold"}).to_parquet(data)
    output = tmp_path / "forecast.json"
    columns = "unique_id=branch,ds=date,y=sold"
    ended = forecast("predict", "--model", "shop", "--data", data, "--columns", columns, "--output", output)
    assert ended.code == 0, ended.err
    assert json.loads(output.read_text())[0]["ds"].startswith("2026-05-01T")
    assert "baseline:seasonal_naive" in ended.err


def test_a_request_that_the_model_cannot_meet_is_refused(
    trained: Trained, forecast: Command, history: Path, tmp_path: Path
) -> None:
    predict = ("predict", "--model", "shop", "--data", history)
    refused(forecast(*predict, "--horizon", 29), "29", "max_horizon 28")
    refused(forecast(*predict, "--level", 100), "between 0 and 100")
    refused(forecast(*predict, "--output", tmp_path / "a.xlsx"), ".csv, .parquet, .json")
    refused(forecast(*predict, "--columns", "shop"), "--columns takes unique_id=THEIRS")
    refused(forecast(*predict, "--columns", "unique_id=store"), "'store'", "'shop', 'day', 'units'")
    refused(forecast("predict", "--model", "shpo", "--data", history), "no model 'shpo'", "shop")
    refused(forecast("predict", "--model", "shop/9", "--data", history), "no version '9'")
    refused(forecast("predict", "--model", "shop@best", "--data", history), "no alias 'best'", "champion")
    refused(forecast("predict", "--model", "shop", "--data", "nowhere.csv"), "there is no file nowhere.csv")
    sales().assign(
        day=lambda frame: frame["day"].iloc[0] + pd.to_timedelta(frame.index % 120, unit="h")
    ).to_parquet(tmp_path / "hourly.parquet")
    hourly = forecast("predict", "--model", "shop", "--data", tmp_path / "hourly.parquet")
    refused(hourly, "the model forecasts daily series (D) and got hourly stamps (h)")
    sales(5).to_parquet(tmp_path / "short.parquet")
    refused(
        forecast("predict", "--model", "shop", "--data", tmp_path / "short.parquet"), "at least 7", "got 5"
    )


def test_a_recipe_without_data_says_what_to_set(forecast: Command) -> None:
    for name in ("stocks", "sensors"):
        ended = forecast("retrain", name)
        refused(ended, f"forecast retrain {name} --data FILE", "forecast recipe new NAME --data FILE")
    assert not home.database_file().exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.head(0), ["no rows"]),
        (lambda frame: frame.drop(columns="units"), ["no column 'units'", "'shop', 'day'"]),
        (lambda frame: pd.concat([frame, frame.tail(1)]), ["south", "2026-04-30", "duplicates"]),
        (lambda frame: frame.assign(day=frame["day"] + pd.Timedelta(hours=1) * (frame.index % 2)), ["grid"]),
        (
            lambda frame: frame.assign(units=frame["units"].astype(str) + "x"),
            ["'units' does not hold numbers"],
        ),
        (lambda frame: frame.assign(units=float("inf")), ["infinite"]),
        (lambda frame: frame.groupby("shop").head(10), ["at least", "10", "horizon"]),
    ],
)
def test_data_that_cannot_be_used_is_refused_and_nothing_is_registered(
    tracked: Path, forecast: Command, tmp_path: Path, change: object, words: list[str]
) -> None:
    recipe = write_recipe(tmp_path)
    assert callable(change)
    change(sales()).to_parquet(tmp_path / "sales.parquet")
    refused(forecast("retrain", recipe, "--json"), *words)
    assert registry.names() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing_like_it"], ["no recipe 'nothing_like_it'", "air_passengers, sensors, stocks"]),
        (["nowhere.toml"], ["no recipe file 'nowhere.toml'"]),
        (["air_passengers", "--data", "nowhere.csv"], ["there is no file", "nowhere.csv"]),
        (["air_passengers", "--data", "prices.xlsx"], ["prices.xlsx", ".csv", ".parquet"]),
    ],
)
def test_a_wrong_name_is_refused(forecast: Command, arguments: list[str], words: list[str]) -> None:
    refused(forecast("retrain", *arguments), *words)
    assert not home.database_file().exists()


def test_a_misspelt_key_is_named_with_the_one_that_was_meant(forecast: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\nhorizon = 3\nlevel = [80]')
    refused(forecast("retrain", path), "unknown key 'level' (did you mean 'levels'?)")


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_recipe_that_is_not_utf_8_is_refused(forecast: Command, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\nhorizon = 3  # größer', encoding=encoding)
    refused(forecast("retrain", path), "is not written in UTF-8")


def test_a_recipe_without_data_says_where_to_name_it(forecast: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('name = "a"\nhorizon = 3', encoding="utf-8-sig")
    ended = forecast("retrain", path)
    refused(ended, "the recipe 'a' has no data", "--data FILE", "[data]")
    assert str(home.recipes_folder()) not in ended.err
    ended = forecast("retrain", "stocks")
    refused(ended, "forecast retrain stocks --data FILE", "forecast recipe new NAME --data FILE")
    assert str(home.recipes_folder()) not in ended.err


def test_predict_is_told_how_a_file_is_written(trained: Trained, forecast: Command, tmp_path: Path) -> None:
    plain, odd = tmp_path / "plain.csv", tmp_path / "odd.csv"
    frame = sales()[lambda rows: rows["shop"] == "north"].assign(units=lambda rows: rows["units"].round(2))
    frame.to_csv(plain, index=False)
    twice = pd.concat([frame, frame.tail(1)])
    twice.assign(day=twice["day"].dt.strftime("%d/%m/%Y")).to_csv(odd, index=False, sep=";", decimal=",")
    expected = forecast("predict", "--model", "shop", "--data", plain)
    assert expected.code == 0, expected.err
    flags = ("--delimiter", ";", "--decimal", ",", "--day-first", "--duplicates", "first")
    found = forecast("predict", "--model", "shop", "--data", odd, *flags)
    assert (found.code, found.out) == (0, expected.out), found.err
    refused(forecast("predict", "--model", "shop", "--data", odd, *flags[:-2]), "--duplicates first")
    refused(
        forecast("predict", "--model", "shop", "--data", odd, "--duplicates", "frist"),
        "--duplicates",
        "'first'",
    )
    refused(forecast("predict", "--model", "shop", "--data", odd, "--columns", "y=nothing"), "nothing")


def test_the_installed_command_ends_in_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("forecast")
    ended = subprocess.run([command, "retrain", "stoks"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("error: there is no recipe 'stoks' (did you mean 'stocks'?)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["retrian"], "no such command 'retrian'"),
        (["predict", "--model", "shop"], "missing option '--data'; `forecast predict --help`"),
        (["predict", "--horizon", "many"], "invalid value for '--horizon'"),
        (["recipe", "new", "shop", "--horizons", "3"], "no such option: --horizons"),
        (["retrain"], "missing argument 'recipe'"),
    ],
)
def test_a_wrong_option_ends_in_one_line_and_exit_code_2(
    forecast: Command, arguments: list[str], words: str
) -> None:
    ended = forecast(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert f"error: {words}" in ended.err


def test_a_command_without_arguments_prints_its_help(forecast: Command) -> None:
    ended = forecast("recipe")
    assert "Look at a data file" in ended.out
    assert "error" not in ended.err


@pytest.mark.parametrize("command", ["retrain", "new"])
def test_a_home_that_is_no_folder_ends_in_one_line(
    forecast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("FORECAST_HOME", str(tmp_path / "file"))
    data = ("--data", tmp_path / "sales.parquet", "--columns", "unique_id=shop,ds=day,y=units")
    ended = forecast(
        *(("retrain", recipe) if command == "retrain" else ("recipe", "new", "a", *data, "--horizon", 7))
    )
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("error: ")
    assert f"FORECAST_HOME is {tmp_path / 'file'}" in ended.err
    assert "Traceback" not in ended.err


def test_a_held_lock_ends_in_75(forecast: Command, tmp_path: Path) -> None:
    with recipe_lock("shop"):
        code = f"import sys; sys.argv = ['forecast', 'retrain', {str(write_recipe(tmp_path))!r}]\n"
        code += "from forecast.cli import main\nmain()"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 75
    assert ended.stderr.startswith("error: another run of the recipe 'shop' holds its lock")


def test_a_server_that_is_down_ends_in_1(
    forecast: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:secret@127.0.0.1:9")
    ended = forecast("retrain", write_recipe(tmp_path))
    assert ended.code == 1
    assert "error: the MLflow server at http://anna:***@127.0.0.1:9 cannot be reached" in ended.err
    assert "secret" not in ended.err


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_retrain_without_a_trace_and_closes_its_run(
    tracked: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    recipe = write_recipe(tmp_path)
    endless = recipe.read_text().replace('["seasonal_naive"]', '["gru"]')
    recipe.write_text(endless + "[training]\nmax_steps = 1_000_000\npatience = 1_000_000\n")
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("forecast")), "retrain", str(recipe), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, number, signal.SIG_DFL),  # a shell's background job ignores SIGINT
    )
    with process:
        assert process.stderr is not None
        assert any("gru: " in line for line in process.stderr), "it tells of a training that goes on"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", "")
    runs = tracking.client().search_runs([tracking.experiment("shop")])
    assert [run.info.status for run in runs] == ["KILLED", "KILLED"]
    assert registry.names() == []
