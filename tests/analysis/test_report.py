import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.answer import answer
from analysis.figures import coded_labels
from analysis.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

# Runs inside the page, and tells the console what it found.
PROBE = """
<script>
const errors = [];
window.addEventListener("error", (event) => errors.push(event.message));
window.addEventListener("unhandledrejection", (event) => console.log("FOUND " + event.reason));
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
window.addEventListener("load", async () => {
  const found = {};
  const head = [...document.querySelectorAll("thead button")].find((b) => b.textContent.startsWith("PESQ"));
  const column = head.closest("th").cellIndex;
  head.click();
  found.rising = [...document.querySelectorAll("table.comparison tbody")].every((body) => {
    const rows = [...body.rows].filter((row) => !row.className && row.cells[column]);
    const values = rows.map((row) => +row.cells[column].dataset.value);
    return values.every((value, place) => !place || value >= values[place - 1]);
  });
  found.sections = document.querySelectorAll("tbody tr:first-child.section").length;
  const plays = document.querySelectorAll(".play");
  plays[0].click();
  await wait(700);
  plays[2].click();
  await wait(300);
  const pressed = (button, place) => button.getAttribute("aria-pressed") === "true" ? place : "";
  found.pressed = [...plays].map(pressed).join("");
  found.position = document.querySelector("progress").value > 0;
  document.getElementById("blind").click();
  found.names = [...document.querySelectorAll(".clip:first-child .play")].map((b) => b.textContent).join("");
  document.querySelector(".choice").click();
  document.getElementById("reveal").click();
  found.choice = document.getElementById("choices").textContent;
  found.outside = performance.getEntriesByType("resource").filter((e) => !e.name.startsWith("file:")).length;
  found.images = [...document.images].every((image) => { image.loading = "eager"; return true; });
  await Promise.all([...document.images].map((image) => image.decode().catch(() => errors.push(image.src))));
  found.errors = errors;
  console.log("FOUND" + JSON.stringify(found));
});
</script>
"""


@pytest.fixture(scope="module")
def report(store: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    hostile = "<script>alert(1)</script>"
    runs = [
        store.Run("none", bits=0.0, effect=2.0, audio=0.001),
        store.Run("fsq", audio=0.02),
        store.Run(hostile, effect=0.5, audio=0.01),
        store.Run("vq", effect=-0.5, audio=0.03),
        store.Run("rvq", status="failed", reason="a & b <i>"),
    ]
    store.study("report", runs)
    return write_report(load("report", store.uri), tmp_path_factory.mktemp("report"))


def test_names_are_escaped(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "a &amp; b &lt;i&gt;" in text


def test_links_are_relative_and_exist(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    links = re.findall(r'(?:src|href)="(?!data:)([^"$]+)"', text) + re.findall(r'"source": "([^"]+)"', text)
    assert len(links) > 10
    for link in links:
        assert (report.parent / link).is_file(), link


def test_it_is_small(report: Path) -> None:
    audio = report.parent / "audio"
    sizes = [
        path.stat().st_size
        for path in report.parent.rglob("*")
        if path.is_file() and audio not in path.parents
    ]
    assert sum(sizes) < 3_000_000


def test_answer_says_what_statistics_say(full: Any, seven: Any) -> None:
    results = load("full", full.uri)
    labels = [f"{name} 18.8 bit" for name in ("vq", "fsq", "q2d2-hex", "q2d2-rect")]
    sentences = answer(results, labels)
    assert sentences[0].startswith(
        "At 2.82 kbit/s on demo (synthetic speech), q2d2-hex 18.8 bit has the best PESQ"
    )
    assert "can't be told from" in sentences[0]
    once = load("seven", seven.uri)
    assert "trained once" in answer(once, coded_labels(once))[-1]
    assert "nothing to compare" in answer(once, ["fsq"])[0]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser(report: Path, tmp_path: Path) -> None:
    probe = report.with_name("probe.html")
    probe.write_text(report.read_text(encoding="utf-8").replace("<body>", "<body>" + PROBE), encoding="utf-8")
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--autoplay-policy=no-user-gesture-required",
        "--remote-debugging-port=0",  # keeps it running
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}",
        probe.as_uri(),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as browser:
        deadline = threading.Timer(90, browser.kill)
        deadline.start()
        assert browser.stderr is not None
        found = next((line for line in browser.stderr if "FOUND" in line), "the page said nothing")
        deadline.cancel()
        browser.kill()
    for part in (
        '"rising":true',
        '"sections":3',
        '"pressed":"2"',
        '"position":true',
        '"names":"referenceABCD"',
        '"choice":"Preferred: utt00: ',
        '"outside":0',
        '"errors":[]',
    ):
        assert part in found, found
