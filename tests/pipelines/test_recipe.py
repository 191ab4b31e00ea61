"""Recipes: what they may say, what they refuse, and where they are looked up."""

import json
import tomllib
from pathlib import Path

import pytest

from forecast.errors import NotFoundError, SpecError
from pipelines import recipe as recipes
from pipelines import recipe_reference

MINIMAL = 'name = "shop_sales"\nhorizon = 14\n'

FULL = """
name = "shop_sales"
freq = "D"
horizon = 14
season_length = 7
levels = [80, 95]
candidates = ["lstm", "gru", "transformer"]
[data]
path = "sales.parquet"
columns = {unique_id = "shop", ds = "day", y = "units"}
[backtest]
num_windows = 4
stride = 14
[gate]
metric = "wql"
margin = 0.0
must_beat = ["naive", "seasonal_naive", "drift"]
"""


@pytest.mark.parametrize("name", ["air_passengers", "sensors", "stocks"])
def test_every_built_in_recipe_loads(name: str) -> None:
    assert name in recipes.builtin_names()
    assert recipes.load(name).name == name


def test_a_full_recipe_is_read_as_written() -> None:
    recipe = recipes.parse(FULL, origin="here")
    assert recipe.season_length == 7
    assert recipe.data.columns == {"unique_id": "shop", "ds": "day", "y": "units"}
    assert recipe.all_candidates == ("lstm", "gru", "transformer", "naive", "seasonal_naive", "drift")


def test_what_is_left_out_has_a_default() -> None:
    recipe = recipes.parse(MINIMAL, origin="here")
    assert (recipe.stride, recipe.backtest.num_windows, recipe.gate.metric) == (14, 4, "wql")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL + "horizont = 3", r"unknown key 'horizont' \(did you mean 'horizon'\?\)"),
        (MINIMAL + "[gate]\nmetrik = 'wql'", r"unknown key 'gate.metrik' \(did you mean 'metric'\?\)"),
        (MINIMAL + "[data]\ngird = '5min'", r"unknown key 'data.gird' \(did you mean 'grid'\?\)"),
        (
            MINIMAL + "[[data.filters]]\ncolunm = 'x'\none_of = [1]",
            r"unknown key 'data.filters.0.colunm' \(did you mean 'column'\?\)",
        ),
        (
            MINIMAL + "[hooks.on_failure]\ncomand = 'x'",
            r"'hooks.on_failure.comand' \(did you mean 'command'\?\)",
        ),
        (MINIMAL + "[monitor]\nwhen = 'x'", "monitor.when: a cron line has five fields"),
        (MINIMAL + "[schedule]\ntrigger = 'drft'", "schedule.trigger: .*'drift'.* and got 'drft'"),
        (MINIMAL + "[gate]\nmust_beat = ['naiv']", r"'naiv' is no baseline \(did you mean 'naive'\?\)"),
        (MINIMAL + "[gate]\ncoverage_80 = [0.9, 0.6]", "gate.coverage_80: bounds are two rising shares"),
        (
            MINIMAL + "levels = [80, 100]",
            "a level is a percentage between 0 and 100, such as 80, and not 100",
        ),
        (MINIMAL + "season_length = '7'", "season_length: input should be a valid integer, and got '7'"),
        (MINIMAL + "context_length = true", "context_length: input should be a valid integer, and got True"),
        (MINIMAL + "levels = ['80']", "levels.0: input should be a valid number, and got '80'"),
        (MINIMAL + "candidates = ['lsmt']", r"there is no 'lsmt' \(did you mean 'lstm'\?\)"),
        (MINIMAL + "[model]\nhiden_size = 8", r"unknown key 'hiden_size' \(did you mean 'hidden_size'\?\)"),
        (MINIMAL + "[model]\ncontext_length = 8", "'context_length' is set above the tables"),
        (MINIMAL + "[model]\ndropout = 2.0", r"\[model\] dropout is a share"),
        (MINIMAL + "candidates = []", "name at least one candidate"),
        (MINIMAL + "candidates = ['gru', 'gru']", "each candidate is named once"),
        (MINIMAL + "[data]\npath = 'a.csv'\ndataset = 'b'", "data: set `path` or `dataset`, not both"),
        (MINIMAL + "[data]\nduplicates = 'maen'", "data.duplicates: .*'mean'.* and got 'maen'"),
        ('name = "a"\nhorizon = 0', "horizon: .*greater than or equal to 1, and got 0"),
        ('name = "a"', "the key 'horizon' is missing; add it"),
        ("name = ", "the recipe x.toml is not valid TOML"),
    ],
)
def test_a_bad_recipe_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        recipes.parse(text, origin="the recipe x.toml")


@pytest.mark.parametrize("name", ["a/b", "a@b", "a:b", "a b", "", "-a", "..", "é", "a" * 101])
def test_a_name_that_no_request_could_spell_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match="cannot be used"):
        recipes.parse(f'name = "{name}"\nhorizon = 1', origin="here")


def test_a_recipe_in_the_home_folder_goes_before_a_built_in_one(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "recipes"
    folder.mkdir(parents=True)
    (folder / "stocks.toml").write_text('name = "stocks"\nhorizon = 3\n[data]\npath = "prices.csv"')
    recipe = recipes.load("stocks")
    assert recipe.horizon == 3
    assert recipe.data.path == str(folder / "prices.csv")


def test_a_relative_data_path_is_relative_to_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "sales.toml").write_text(MINIMAL + '[data]\npath = "../sales.csv"')
    monkeypatch.chdir(tmp_path)
    assert recipes.load("shop/sales.toml").data.path == str(tmp_path / "sales.csv")


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        NotFoundError, match=r"no recipe 'stoks' \(did you mean 'stocks'\?\); there are air_passengers"
    ):
        recipes.load("stoks")
    with pytest.raises(NotFoundError, match=r"there is no recipe file 'here\.toml'"):
        recipes.load("here.toml")


def test_the_digest_follows_what_decides_the_model_and_not_where_the_data_lies(tmp_path: Path) -> None:
    recipe = recipes.parse(FULL, origin="here")
    assert recipes.with_data(recipe, path=tmp_path / "moved.parquet").digest() == recipe.digest()
    assert recipe.model_copy(update={"horizon": 7}).digest() != recipe.digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]\nurl = 'ftp://a/b.csv'", "data: `url` begins with https://"),
        ("[data]\nquery = 'select 1'", "data: `database` and `query` go together"),
        ("[data]\nsha256 = 'abc'", "data.sha256: string should match pattern"),
        ("[data]\nresample = 'MS'\ngrid = 'D'", "data: set `resample` or `grid`, not both"),
        ("[data]\ncomplete_after = 'soon'", "data.complete_after: a duration is a number"),
        ("[[data.filters]]\ncolumn = 'a'", "a filter needs `one_of`"),
        ("[schedule]\ncorn = '@daily'", r"unknown key 'schedule.corn' \(did you mean 'cron'\?\)"),
        ("[hooks.on_failure]\nurl = 'a.b'", "hooks.on_failure: a webhook's address begins with"),
        ("[hooks.on_failure]", "hooks.on_failure: set `command` or `url`, one of them"),
    ],
)
def test_the_tables_around_the_model_are_checked_too(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        recipes.parse(f"{MINIMAL}{text}", origin="here")


def test_the_committed_schema_is_that_of_this_version() -> None:
    """`forecast recipe schema > docs/recipe.schema.json` writes it anew."""
    path = Path(__file__).resolve().parents[2] / "docs" / "recipe.schema.json"
    assert json.loads(path.read_text()) == recipes.json_schema()


def test_the_page_of_all_keys_is_that_of_this_version_and_leaves_none_unexplained() -> None:
    """`python -m pipelines.recipe_reference > docs/recipe-keys.md` writes it anew."""
    path = Path(__file__).resolve().parents[2] / "docs" / "recipe-keys.md"
    page = recipe_reference.markdown()
    assert path.read_text() == page
    assert "|  |" not in page
    for key in ("`filters[].one_of`", "`[schedule]`", "`freshness.max_age`", "`hidden_size`"):
        assert key in page


def test_the_schema_takes_the_built_in_recipes_and_refuses_a_typo() -> None:
    import jsonschema

    schema = recipes.json_schema()
    for name in recipes.builtin_names():
        jsonschema.validate(tomllib.loads(recipes._builtin_text(name)), schema)
    for wrong in ({"horizont": 3}, {"candidates": ["lsmt"]}, {"gate": {"metrik": "mae"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"name": "a", "horizon": 3, **wrong}, schema)
