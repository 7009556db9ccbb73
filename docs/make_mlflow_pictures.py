"""Take the pictures of docs/mlflow.md from MLflow's own UI, in headless Chromium.

    python docs/make_mlflow_pictures.py STUDY [--folder DIRECTORY] [--output docs/images]

DIRECTORY is where the study was run, with its `mlflow.db`. Needs chromium, chromedriver, and selenium
(`pip install 'codecbench[test]'`).
"""

import argparse
import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.mlflow_server import MlflowServer
from experiments.tracking.schema import FINISHED, KIND_RUN, KIND_STUDY
from experiments.tracking.store import Store

WAIT = 60.0  # seconds for an element of a page
SETTLE = 4.0  # for what is drawn after it: charts, tables
WIDTH, HEIGHT = 1280, 800
COLOURS = 128  # of a picture, so that it stays below 150 kB


def chromium() -> str | None:
    """The browser of this machine, if it has one together with its driver."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return found if shutil.which("chromedriver") else None


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium that asks nobody but the pages it is sent to."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium() or ""
    with tempfile.TemporaryDirectory() as profile:
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(argument)
        service = webdriver.ChromeService(shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            yield driver
        finally:
            driver.quit()


class StudyInTheUi:
    """One study in the UI of a server: pages by what they show."""

    def __init__(self, driver: Any, uri: str, study: str) -> None:
        self.driver, self.uri = driver, uri
        store = Store(uri, study)
        self.experiment = store.experiment_id
        (*_, parent) = store.search(kind=KIND_STUDY)
        self.parent = str(parent.info.run_id)
        self.runs = {
            str(run.info.run_name): str(run.info.run_id)
            for run in store.search(kind=KIND_RUN, status=FINISHED)
        }

    def open(self, path: str) -> None:
        """Go to a page below the experiment, with the menu of training runs."""
        self.driver.get(f"{self.uri}/#/experiments/{self.experiment}{path}")

    def find(self, xpath: str) -> Any:
        """The element, as soon as the page shows it. Raises selenium's TimeoutException."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        def shown(driver: Any) -> Any:
            return next((e for e in driver.find_elements(By.XPATH, xpath) if e.is_displayed()), False)

        # React draws a page again and again: what was found may be gone the next moment.
        wait = WebDriverWait(self.driver, WAIT, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(shown)

    def click(self, xpath: str) -> None:
        """Click as a script does, whatever lies above the element."""
        self.driver.execute_script("arguments[0].click()", self.find(xpath))

    def list_of_runs(self) -> None:
        """The experiment's runs, children below their parent, with quality and rate in columns."""
        self.open("/runs")
        self.click("//*[normalize-space()='Model training' and not(*)]")
        self.find("//h2[contains(., 'Runs')] | //*[normalize-space()='Runs']")
        self._close_assistant()
        self.click("//button[contains(@data-component-id, 'runnamecellrenderer')]")
        self.find(f"//a[contains(., '{next(iter(self.runs))}')]")

    def toggle_columns(self, names: Sequence[str]) -> None:
        """Add columns to the list of runs, or take them out where they are in it."""
        from selenium.webdriver.common.keys import Keys

        self.click("//button[contains(@data-component-id, 'columnselector')]")
        for name in names:
            box = self.find("//input[@placeholder='Search columns']")
            box.send_keys(Keys.CONTROL, "a")
            box.send_keys(name)
            row = f"//*[contains(@class, 'tree-treenode')][normalize-space()='{name}']"
            self.click(f"{row}//*[contains(@class, 'tree-checkbox')]")
        box.send_keys(Keys.ESCAPE)

    def charts(self, metrics: str) -> None:
        """Charts of the metrics that a regular expression matches, of all runs but the parent."""
        self.open("/runs?compareRunsMode=CHART&searchFilter=tags.%60codecbench.kind%60%20%3D%20'run'")
        self.find("//input[@placeholder='Search metric charts']").send_keys(metrics)
        self.find("//*[contains(@class, 'js-plotly-plot')]")
        hidden = "document.head.insertAdjacentHTML('beforeend', '<style>.modebar {display: none}</style>')"
        self.driver.execute_script(hidden)  # the buttons over the bars, which MLflow shows below the pointer

    def comparison(self, metrics: Sequence[str]) -> None:
        """Runs beside each other: their labels and `metrics` as parallel coordinates."""
        from selenium.webdriver.common.keys import Keys

        runs = json.dumps(list(self.runs.values()), separators=(",", ":"))
        query = f"?runs={runs}&experiments={json.dumps([self.experiment])}".replace('"', "%22")
        self.driver.get(f"{self.uri}/#/compare-runs{query}")
        self.find("//*[contains(text(), 'Parallel Coordinates')]")
        shown = "//*[contains(@class, 'select-selection-item')][normalize-space()='{}']"
        for name in ("quantizer.name", "quantizer.options.codebook_dim", "train/loss"):  # of MLflow's choice
            self.click(f"{shown.format(name)}//*[contains(@class, 'select-selection-item-remove')]")
        self.find("//*[contains(@class, 'select-selector')][contains(., 'select metrics')]").click()
        for name in metrics:
            self.driver.switch_to.active_element.send_keys(name)
            self.click(f"//*[contains(@class, 'select-item-option')][normalize-space()='{name}']")
        self.driver.switch_to.active_element.send_keys(Keys.ESCAPE)

    def figure(self, path: str) -> Any:
        """A figure among the parent's artifacts: its image."""
        self.open(f"/runs/{self.parent}/artifacts/{path}")
        return self.find(f"//img[@alt='{path}']")

    def models(self) -> None:
        """The trained codecs."""
        self.open("/models")
        self.find("//a[contains(@href, '/models/m-')]")

    def _close_assistant(self) -> None:
        from selenium.webdriver.common.by import By

        for button in self.driver.find_elements(
            By.XPATH, "//button[@data-component-id='mlflow.assistant.chat_panel.close']"
        ):
            button.click()


def take(driver: Any, path: Path) -> None:
    """Write what the page shows, in few colours."""
    from PIL import Image

    time.sleep(SETTLE)
    with Image.open(io.BytesIO(driver.get_screenshot_as_png())) as picture:
        picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images")
    arguments = parser.parse_args()
    with MlflowServer(arguments.folder.resolve()) as server, browser() as driver:
        study = StudyInTheUi(driver, server.uri, arguments.study)
        study.list_of_runs()
        study.toggle_columns(["Dataset", "Source", "Models"])
        study.toggle_columns(["eval/pesq", "eval/stoi", "rate/bitrate"])
        take(driver, arguments.output / "mlflow-runs.png")
        study.comparison(["eval/pesq", "eval/stoi", "eval/mel_distance"])
        take(driver, arguments.output / "mlflow-compare.png")
        study.models()
        take(driver, arguments.output / "mlflow-models.png")
        study.figure("figures/voronoi-q2d2-rhombic.png")
        take(driver, arguments.output / "mlflow-figure.png")
        study.charts("eval/(pesq|stoi)$|validation/loss")
        take(driver, arguments.output / "mlflow-charts.png")


if __name__ == "__main__":
    main()
