import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.figures.captions import CAPTIONS, caption
from analysis.reports.answer import answer
from analysis.reports.listening import choose, logged_audio
from analysis.reports.report import write_report
from analysis.statistics.matched_rates import coded_labels

HOSTILE = "<script>alert(1)</script> \"q\" 'a'"


@pytest.fixture(scope="module")
def report(store: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = [
        store.Run("none", bits=0.0, effect=2.0, audio=0.001, seconds=4),
        store.Run("fsq", audio=0.02, seconds=4),
        store.Run(HOSTILE, effect=0.5, audio=0.01, seconds=4),
        store.Run("vq", effect=-0.5, audio=0.03, seconds=4),
        store.Run("rvq", status="failed", reason="a & b <i>"),
    ]
    parent = store.study("report", runs)
    store.client.log_param(parent, "question", "Is <b>this</b> a question? </script>")
    return write_report(load("report", store.uri), tmp_path_factory.mktemp("report"))


def test_names_are_escaped(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Is &lt;b&gt;this&lt;/b&gt; a question? &lt;/script&gt;" in text
    assert text.count("</script>") == 2  # the data and the page's own
    assert "a &amp; b &lt;i&gt;" in text


def test_links_are_relative_and_exist(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    links = re.findall(r'(?:src|href)="(?!data:)([^"$]+)"', text) + re.findall(r'"source": "([^"]+)"', text)
    assert len(links) > 10
    for link in links:
        assert (report.parent / link).is_file(), link


def test_a_report_has_the_chosen_figures_alone(store: Any, report: Path, tmp_path: Path) -> None:
    page = write_report(load("report", store.uri), tmp_path / "few", only=["utilisation", "cost"])
    few = {path.stem for path in (page.parent / "figures").iterdir()}
    assert few == {"utilisation", "cost"} < {path.stem for path in (report.parent / "figures").iterdir()}
    assert set(re.findall(r'src="figures/([^".]+)', page.read_text(encoding="utf-8"))) == few


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
    assert "no significant difference was shown to" in sentences[0]
    assert sentences[-2].startswith("Over 3 rates, 3 seeds, q2d2-hex has the best average rank by PESQ")
    bits = (
        r"At equal PESQ, q2d2-hex needs \d+ % fewer bits than vq \(BD-rate -\d+ % \[-\d+, ([+-]\d+)\](.*)\)\."
    )
    found = re.fullmatch(bits, sentences[-1])
    assert found is not None, sentences[-1]
    assert found[2] == (", not significant" if found[1].startswith("+") else "")
    apart = answer(results, ["vq 13.4 bit", "vq 18.8 bit"])
    assert apart[0].startswith("At 2.01 to 2.82 kbit/s on demo")
    once = load("seven", seven.uri)
    assert "trained once" in answer(once, coded_labels(once))[-1]
    assert "nothing to compare" in answer(once, ["fsq"])[0]


def test_best_worst_and_most_different_utterances_are_chosen(store: Any) -> None:
    runs = [store.Run("vq", audio=0.1), store.Run("fsq", audio=0.1), store.Run("rvq")]
    store.study("chosen", runs)
    results = load("chosen", store.uri)
    logged = logged_audio(results, ["vq", "fsq", "rvq"])
    assert set(logged) == {"vq", "fsq"}  # nothing was logged for rvq
    found = choose(results, ["vq", "fsq"], logged)
    scores = results.utterances[results.utterances["metric"] == "pesq"]
    scores = scores[scores["utterance"].isin(["utt00", "utt01", "utt02"]) & (scores["label"] != "rvq")]
    table = scores.pivot_table(index="utterance", columns="label", values="value")
    best, worst = table.mean(axis=1).idxmax(), table.mean(axis=1).idxmin()
    apart = (table["vq"] - table["fsq"]).abs().idxmax()
    reasons = {one.utterance: one.why.lower() for one in found}
    assert "best" in reasons[best]
    assert "worst" in reasons[worst]
    assert "most different" in reasons[apart]
    assert set(reasons) == {best, worst, apart}


def test_captions_go_by_the_longest_beginning() -> None:
    assert caption("voronoi-slice-vq") == CAPTIONS["voronoi-slice"]
    assert caption("voronoi-q2d2-hex") == CAPTIONS["voronoi"]
    assert caption("something-new") == "something new."
    assert caption("cost", "2.82 kbit/s") == f"2.82 kbit/s: {CAPTIONS['cost']}"


@pytest.fixture
def page(chromium: Any, report: Path) -> Iterator[Any]:
    """The report, freshly loaded; afterwards the console must have no errors."""
    chromium.get(report.as_uri())
    chromium.execute_script("localStorage.clear()")
    chromium.get(report.as_uri())
    yield chromium
    assert [line for line in chromium.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []


def until(true: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return found


def test_it_asks_nothing_of_a_network(page: Any) -> None:
    entries = page.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert all(name.startswith(("file:", "data:")) for name in entries), entries
    blocked = page.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', (e) => done(e.blockedURI), {once: true});"
        "document.body.append(Object.assign(new Image(), {src: 'https://example.invalid/x.png'}));"
    )
    assert blocked.startswith("https://example.invalid")
    page.get_log("browser")  # it told of the image


def test_pictures_and_audio_load(page: Any) -> None:
    page.execute_script("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    loaded = "return [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    until(lambda: page.execute_script(loaded))
    ready = "return [...document.querySelectorAll('audio')].map((a) => a.readyState >= 1 && a.duration)"
    durations = until(lambda: all(found := page.execute_script(ready)) and found)
    assert durations == pytest.approx([4.0] * len(durations))
    assert len(durations) == 5 * len(page.find_elements("css selector", ".clip"))


def test_columns_sort_from_the_keyboard(page: Any) -> None:
    head = next(
        button
        for button in page.find_elements("css selector", "thead button")
        if button.text.startswith("PESQ")
    )
    column = page.execute_script("return arguments[0].closest('th').cellIndex", head)

    def sections() -> list[list[float]]:
        return page.execute_script(
            "return [...document.querySelectorAll('table.comparison tbody')].map((body) => [...body.rows]"
            ".filter((row) => !row.className && row.cells[arguments[0]])"
            ".map((row) => +row.cells[arguments[0]].dataset.value))",
            column,
        )

    before = sections()
    head.send_keys("\ue007")  # Enter
    assert sections() == [sorted(values) for values in before]
    head.send_keys(" ")
    assert sections() == [sorted(values, reverse=True) for values in before]
    assert page.execute_script("return arguments[0].closest('th').ariaSort", head) == "descending"
    first = "return document.querySelectorAll('tbody tr:first-child.section').length"
    assert page.execute_script(first) == len(before)


def test_systems_play_and_switch_at_the_same_position(page: Any) -> None:
    plays = page.find_elements("css selector", ".clip:first-child .play")
    assert [play.text for play in plays] == ["reference", "none", "fsq", HOSTILE, "vq"]
    state = (
        "return [...document.querySelectorAll('audio')].map((a, n) => [n, a.currentTime, a.paused])"
        ".filter(([n, time, paused]) => !paused)"
    )
    plays[0].click()
    ((_, position, _),) = until(lambda: [one for one in page.execute_script(state) if one[1] > 0.2])
    plays[2].click()
    ((number, after, _),) = until(lambda: page.execute_script(state))
    assert number == 2
    assert after >= position
    assert [play.get_attribute("aria-pressed") for play in plays] == [
        "false",
        "false",
        "true",
        "false",
        "false",
    ]
    moved = "return document.querySelector('.needle').style.left"
    until(lambda: page.execute_script(moved).startswith("calc("))
    page.find_element("css selector", "body").send_keys("4")
    until(lambda: [one[0] for one in page.execute_script(state)] == [3])
    page.find_element("css selector", "h1").click()
    page.execute_script("document.activeElement.blur()")
    page.find_element("css selector", "body").send_keys(" ")
    until(lambda: page.execute_script(state) == [])


def test_blind_trials_hide_names_and_keep_choices(page: Any, report: Path, tmp_path: Path) -> None:
    page.find_element("id", "blind").click()
    shown = page.find_element("id", "listening").text
    assert not any(name in shown for name in ("fsq", "vq", "script"))
    assert not page.find_element("id", "clips").is_displayed()
    clips = json.loads(page.execute_script("return document.getElementById('data').textContent"))
    assert f"0 chosen, {3 * len(clips)} to go" in shown
    page.find_element("css selector", "#trial .play:nth-child(2)").click()
    until(
        lambda: page.execute_script(
            "return [...document.querySelectorAll('audio')].some((a) => a.currentTime)"
        )
    )
    page.find_element("css selector", ".choice").click()
    page.find_element("css selector", ".choice:nth-child(3)").click()
    assert f"2 chosen, {3 * len(clips) - 2} to go" in page.find_element("id", "count").text
    page.find_element("id", "reveal").click()
    assert "system" in page.find_element("id", "results").text
    page.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.find_element("id", "export").click()
    until(lambda: (tmp_path / "choices.json").exists())
    choices = json.loads((tmp_path / "choices.json").read_text(encoding="utf-8"))["choices"]
    assert choices[0]["chosen"] == choices[0]["a"]
    assert choices[1]["chosen"] is None
    assert {choice["a"] for choice in choices} <= {"fsq", "vq", HOSTILE}
    page.get(report.as_uri())  # they outlast the page
    page.find_element("id", "blind").click()
    assert "2 chosen" in page.find_element("id", "count").text


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(page: Any, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        page.find_element("id", "blind").click()
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_mode(page: Any) -> None:
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    colours = (
        "const style = getComputedStyle(document.querySelector('tbody th[scope=row]'));"
        "return [style.backgroundColor, style.color].map((c) => c.match(/\\d+/g).slice(0, 3).map(Number))"
    )
    back, text = page.execute_script(colours)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert max(back) < 60
    assert min(text) > 200
