"""A recipe with covariates: registered with an example that has them, and the same numbers from all sides."""

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from forecast import from_frame, home
from pipelines import recipe as recipes
from pipelines import registry
from pipelines.retrain import retrain

RECIPE = """
name = "priced"
freq = "D"
horizon = 3
candidates = ["gru"]
[data]
path = "sales.parquet"
{covariates}
[backtest]
num_windows = 2
[gate]
must_beat = []
[training]
max_steps = 2
"""


def sales(num_steps: int = 120) -> pd.DataFrame:
    """Two shops whose whole-numbered sales follow the price."""
    price = 1.0 + np.arange(num_steps) % 5
    shops = [
        pd.DataFrame(
            {
                "unique_id": shop,
                "ds": pd.date_range("2026-01-01", periods=num_steps),
                "y": (100 - 7 * price).astype("int64"),
                "price": price,
                "region": region,
            }
        )
        for shop, region in (("a", "north"), ("b", "south"))
    ]
    return pd.concat(shops, ignore_index=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("covariates", "columns"),
    [
        ('known = ["price"]\nstatic = ["region"]', {"known": ["price"], "static": ["region"]}),
        ('past = ["price"]', {"past": ["price"]}),
    ],
)
def test_a_model_with_covariates_is_registered_and_answers(
    tracked: Path, tmp_path: Path, covariates: str, columns: dict[str, list[str]]
) -> None:
    sales().to_parquet(tmp_path / "sales.parquet")
    (tmp_path / "priced.toml").write_text(RECIPE.format(covariates=covariates))
    outcome = retrain(recipes.load(str(tmp_path / "priced.toml")), say=lambda _: None)
    assert outcome.verdict == "promoted"
    names = [name for own in columns.values() for name in own]
    history = sales()[["unique_id", "ds", "y", *names]]
    if "known" in columns:
        history = history.astype({"y": "float64"})
        history.loc[history.groupby("unique_id").tail(3).index, "y"] = np.nan
    panel = from_frame(history, freq="D", **{f"{kind}": own for kind, own in columns.items()})  # type: ignore[arg-type]
    expected = registry.load(registry.find("priced")).predict(panel).median
    mlflow.set_tracking_uri(home.tracking_uri())
    model = mlflow.pyfunc.load_model("models:/priced@champion")
    assert set(names) <= set(model.metadata.get_input_schema().input_names())
    np.testing.assert_allclose(model.predict(history)["median"].to_numpy(float), expected.ravel(), rtol=1e-4)
