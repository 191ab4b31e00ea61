"""What a data scientist sees in MLflow after a retrain of three models, in a real browser.

Screenshots go to the folder that FORECAST_SCREENSHOTS names, else to this session's temporary folder.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from forecast import home
from pipelines import demo, registry, tracking
from pipelines import recipe as recipes
from pipelines.retrain import Outcome, retrain
from tests import servers

pytestmark = [pytest.mark.slow, pytest.mark.browser]

RECIPE = """
name = "passengers"
freq = "MS"
horizon = 12
candidates = ["lstm", "gru", "transformer"]
[data]
dataset = "air_passengers"
[backtest]
num_windows = 3
[training]
max_steps = 12
[model]
hidden_size = 8
members = 1
"""

WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Page:
    """A browser that looks at one MLflow server."""

    browser: webdriver.Chrome
    url: str
    screenshots: Path

    def open(self, path: str) -> None:
        """Load a page of the UI, without what the one before has left in memory."""
        self.browser.get("about:blank")
        self.browser.get(f"{self.url}/{path}")

    def until(self, what: "Callable[[], object]", hint: str) -> object:
        """The first true answer; AssertionError with the text of the page where there is none."""
        from selenium.webdriver.support.ui import WebDriverWait

        def attempt(_: object) -> object:
            try:
                return what()
            except WebDriverException:
                return None

        try:
            return WebDriverWait(self.browser, WAIT_SECONDS, poll_frequency=0.2).until(attempt)
        except WebDriverException as error:
            self.shot("failed")
            raise AssertionError(f"{hint} is not there; the page says: {self.text}") from error

    @property
    def text(self) -> str:
        """Everything that can be read."""
        return self.browser.find_element(By.TAG_NAME, "body").text

    def reads(self, *words: str) -> None:
        """Wait until all of these can be read."""
        self.until(lambda: all(word in self.text for word in words), f"one of {words}")

    def find(self, css: str, text: str = "") -> list[WebElement]:
        """The visible elements with this text."""
        found = self.browser.find_elements(By.CSS_SELECTOR, css)
        return [each for each in found if text in each.text and each.is_displayed()]

    def click(self, css: str, text: str = "") -> None:
        """Click the first such element, once it is there."""

        def attempt() -> bool:
            found = self.find(css, text)
            if found:
                found[0].click()
            return bool(found)

        self.until(attempt, f"{css} {text!r}")

    def shot(self, name: str) -> None:
        """Keep what can be seen."""
        self.browser.save_screenshot(str(self.screenshots / f"{name}.png"))


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """The champion, a challenger and who served before, in a home folder of their own."""
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECAST_HOME", str(folder / "home"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        (folder / "passengers.toml").write_text(RECIPE)
        yield retrain(recipes.load(str(folder / "passengers.toml")), say=lambda line: None)


@pytest.fixture(scope="module")
def page(retrained: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Chromium and its driver (Debian packages chromium, chromium-driver)")
    folder = tmp_path_factory.mktemp("browser")
    screenshots = Path(os.environ.get("FORECAST_SCREENSHOTS") or folder / "screenshots")
    screenshots.mkdir(parents=True, exist_ok=True)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1700,1200",
        f"--user-data-dir={folder / 'profile'}",
    ):
        options.add_argument(argument)
    with servers.mlflow_server(folder / "server", backend=home.tracking_uri()) as server:
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield Page(browser, server.url, screenshots)
        finally:
            browser.quit()


@pytest.fixture(autouse=True)
def _in_the_home_of_the_retrain(retrained: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixture that gives every test a home of its own has taken it away."""
    database = retrained.tracking_uri.removeprefix("sqlite:///")
    monkeypatch.setenv("FORECAST_HOME", str(Path(database).parent))


def runs_table(page: Page, retrained: Outcome) -> None:
    page.open(demo._page(retrained.to_dict(), metric="wql"))
    page.reads("lstm", "gru", "transformer", "seasonal_naive", "6 matching runs")
    if page.find("button[aria-label='Close']"):
        page.click("button[aria-label='Close']")  # the assistant, which takes a quarter of the width


def test_the_link_of_the_demo_shows_the_candidates_best_first(page: Page, retrained: Outcome) -> None:
    runs_table(page, retrained)
    scores = {each["name"]: each["metrics"]["wql"] for each in retrained.candidates}
    ranked = sorted(scores, key=lambda name: scores[name] or 0.0)
    shown = [line for line in page.text.splitlines() if line in ranked]
    page.click("button", "Show more columns")
    page.reads("Metrics (", "coverage_80", "mae")
    page.shot("1-runs")
    assert shown[: len(ranked)] == ranked
    assert retrained.data_fingerprint[:12] in page.browser.page_source  # the data set, beside every candidate


def test_ticked_runs_are_compared_and_their_error_is_drawn_by_step(page: Page, retrained: Outcome) -> None:
    runs_table(page, retrained)
    for box in page.browser.find_elements(By.CSS_SELECTOR, ".ag-row .ag-checkbox-input")[:3]:
        page.browser.execute_script("arguments[0].click()", box)  # the box itself is drawn by its frame
    page.click("button, a", "Compare")
    page.reads("Comparing 3 Runs from 1 Experiment", "Run details")
    page.shot("2-compare")
    link = page.until(lambda: page.browser.find_elements(By.LINK_TEXT, "mae_by_step"), "mae_by_step")
    assert isinstance(link, list)
    page.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", link[0])
    page.shot("3-compare-metrics")
    page.browser.execute_script("arguments[0].click()", link[0])
    page.reads("Completed Runs", "(step=12)")
    page.shot("4-error-by-step")
    assert page.text.count("(step=12)") == 3
    assert all(name in page.text for name in ("lstm", "gru", "transformer"))


def test_the_retrain_says_what_was_decided_and_its_candidates_show_their_charts(
    page: Page, retrained: Outcome
) -> None:
    experiment = tracking.client().get_run(retrained.run_id).info.experiment_id
    page.open(f"#/experiments/{experiment}/runs/{retrained.run_id}?workflowType=machine_learning")
    page.reads("promoted (version 1): first champion", "best wql first")
    page.shot("5-retrain")
    run = registry.find("passengers").run_id
    page.open(f"#/experiments/{experiment}/runs/{run}/model-metrics?workflowType=machine_learning")
    page.reads("mae_by_step", "mase_by_step", "coverage80_by_step")
    page.shot("6-metrics")
    page.open(f"#/experiments/{experiment}/runs/{run}/artifacts?workflowType=machine_learning")
    page.click("[role=treeitem], li, .artifact-view-tree *", "figures")
    page.reads("error_by_step.png")
    page.shot("7-figures")


def test_the_model_page_shows_which_version_is_champion_and_why(page: Page) -> None:
    page.open("#/models/passengers?workflowType=machine_learning")
    page.reads("Version 1", "@ champion", "The version with the alias champion serves")
    page.shot("8-model")
    page.open("#/models/passengers/versions/1?workflowType=machine_learning")
    page.reads("@ champion", "Accuracy", "seasonal_naive", "Limits")
    page.shot("9-version")
