"""Put the table, the statistics and the figures of studies into docs/results/.

    codecbench run tilings-matched-rate --data manifest:corpus.csv
    python docs/make_results.py tilings-matched-rate

Of each study, docs/results/STUDY/ gets the figures that the page docs/results/STUDY.md shows, the CSV behind
each, and `runs.csv`; the page gets its table between the two `table` comments, and its cost between the
`cost` ones. What people wrote around them stays; a page that is missing is begun, with all figures.
The differences that a study was made for stand between the `contrasts` comments. The README's answer has its
numbers between comments of their names. The README has the `EFFECTS` of the studies `HEADLINE` at one rate,
as a table and as docs/images/headline.svg. docs/results/report/ is the report of `REPORTED`,
with fewer figures.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from make_gallery import shrink

if TYPE_CHECKING:
    from analysis.results.study_results import Results

HERE = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
PICTURE = Path(__file__).parent / "images" / "headline.svg"
REPORTED = "soundstream-rates"
HEADLINE = ("soundstream-lattices", "dimensions-soundstream", "soundstream-starts", "soundstream-rates")
HEADLINE_BITRATE = 3200.0  # bit/s
EFFECTS = (
    "shape of the cells",
    "more dimensions",
    "range",
    "channels",
    "allocation",
    "start",
    "learned codebook",
)
REPORT_FIGURES = ("effects", "rate_distortion", "channels", "differences", "cost", "utterances")
COLUMNS = ("entropy_fraction", "bits_per_frame", "token_rate")  # after bitrate, quality and use of the codes
JOINT = ("joint_used_fraction", "joint_uniform_used_fraction", "joint_perplexity", "joint_uniform_perplexity")
# What the question of a study is about.
OF_STUDY = {
    "codebook-size": JOINT,
    "soundstream-frozen": ("signal_to_noise",),
}
LARGE = 100_000  # bytes of a CSV that is left out
RUN_COLUMNS = (
    "label",
    "seed",
    "status",
    "run_hash",
    "precision",
    "git_commit",
    "version",
    "torch",
    "corpus_hash",
)
PAGE = """# {study}

**Question.** {question}

**Answer.**

```console
$ codecbench run {study} --data manifest:corpus/manifest.csv
$ codecbench table {study} --format markdown --columns {columns}
```

<!-- table -->
<!-- table ends -->
{contrasts}
{figures}

**Cost.** <!-- cost --><!-- cost ends -->
"""


CONTRASTS = """
The contrasts (`codecbench effects {study}`):

<!-- contrasts -->
<!-- contrasts ends -->
"""


def main() -> None:
    """Write what the named studies have."""
    from analysis import load
    from analysis.reports.report import write_report
    from analysis.results.load import ResultsError

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="+")
    parser.add_argument(
        "--tracking-uri", help="store with the studies; default MLFLOW_TRACKING_URI or ./mlflow.db"
    )
    given = parser.parse_args()
    for study in given.studies:
        results = load(study, given.tracking_uri)
        page = HERE / f"{study}.md"
        text = page.read_text(encoding="utf-8") if page.exists() else None
        names = write_figures(results, HERE / study, text)
        write_runs(results, HERE / study / "runs.csv")
        text = text or begin(results, names)
        text = between(text, "table", f"\n{table(results)}\n")
        if results.contrasts:
            text = between(text, "contrasts", f"\n{contrasts([results])}\n")
        page.write_text(between(text, "cost", cost(results)), encoding="utf-8")
        if study in NUMBERS:
            whole = README.read_text(encoding="utf-8")
            for name, number in NUMBERS[study](results).items():
                whole = between(whole, name, number)
            README.write_text(whole, encoding="utf-8")
        if study == REPORTED:
            write_report(results, HERE / "report", only=REPORT_FIGURES)
        size = sum(path.stat().st_size for path in (HERE / study).iterdir())
        print(f"wrote {page} and {len(names)} figures, {size / 1e6:.2f} MB")
    if {*given.studies} & {*HEADLINE}:
        try:
            headline = [load(study, given.tracking_uri) for study in HEADLINE]
        except ResultsError as error:
            print(f"the README's effects stay as they are: {error}")
        else:
            write_headline(headline)


def columns(results: Results) -> tuple[str, ...]:
    """Names of the columns that the study has values for."""
    from analysis.results.columns import logged
    from analysis.results.study_metrics import default_keys

    asked = (*default_keys(results), *OF_STUDY.get(results.study, ()), *COLUMNS)
    return tuple(logged(asked, results.runs.columns))


def table(results: Results) -> str:
    """The comparison in Markdown."""
    from analysis.tables.comparison import comparison
    from analysis.tables.formats import render

    return render(comparison(results, columns(results)), "markdown")


def contrasts(
    studies: Sequence[Results], bitrate: float | None = None, effects: Sequence[str] | None = None
) -> str:
    """The contrasts of studies with 95 % intervals, in Markdown, without a title; of one rate or all, of some
    effects or all."""
    from analysis.tables.contrasts import contrast_table
    from analysis.tables.formats import render

    table = contrast_table(studies, intervals="range", bitrate=bitrate, effects=effects)
    _, text = render(table, "markdown").split("\n\n", 1)
    return text.strip()


def numbers_of_rates(results: Results) -> dict[str, str]:
    """The numbers of the README's answer that come from soundstream-rates, by the names of their comments."""
    from analysis.statistics.contrasts import contrasts
    from analysis.statistics.matched_rates import labels_by_rate

    frame = contrasts(results)
    frame = frame[frame["metric"] == "pesq"].set_index("contrast")
    high = frame[frame["bitrate"] > 1500]  # bit/s
    fitted = high.loc[["fsq, fitted less paper's", "q2d2-hex, fitted less paper's"], "difference"]
    tilings = frame.loc["hexagons less fsq, paper's channels", "difference"]
    rvq_leads = frame.loc["rvq less fsq fitted", "difference"]
    means = results.finished.groupby("label")["eval/pesq"].mean()
    leads = []
    for labels in labels_by_rate(results)[1]:
        rvq = next(label for label in labels if label.startswith("rvq"))
        leads.append(
            means[rvq] - max(means[label] for label in labels if not label.startswith(("rvq", "vq")))
        )
    return {
        "seeds": f"{results.finished['seed'].nunique()}",
        "gain of fitted channels": from_to(list(fitted)),
        "hexagons and squares": f"{tilings.abs().max():.2f}",
        "rvq and grids": from_to(leads),
        "rvq and fitted fsq": from_to(list(rvq_leads)),
    }


def numbers_of_starts(results: Results) -> dict[str, str]:
    """The numbers of the README's answer that come from starts, by the names of their comments."""
    from analysis.statistics.contrasts import contrasts

    frame = contrasts(results)
    differences = frame[frame["metric"] == "pesq"].set_index("contrast")["difference"]
    return {
        "gain of a start": from_to(
            list(differences[["fsq, data less random", "q2d2-hex, data less random"]])
        ),
        "random starts": f"{differences['vq less fsq, both random']:.2f}",
        "starts from data": f"{differences['vq less fsq']:.2f}",
    }


def numbers_of_soundstream_starts(results: Results) -> dict[str, str]:
    """The numbers of the README's answer that come from soundstream-starts, by names of comments."""
    from analysis.statistics.contrasts import contrasts

    frame = contrasts(results, ["pesq"], HEADLINE_BITRATE).set_index("contrast")
    gains = frame["difference"]
    return {
        "gain of a start on SoundStream": from_to(
            list(gains[["fsq, data less random", "q2d2-hex, data less random"]])
        ),
        "gain of a start for rvq": f"{gains['rvq, data less random']:.2f}",
    }


def from_to(values: Sequence[float]) -> str:
    """`0.10 to 0.13`, the least and the greatest of `values`, or one number where they round to the same."""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


NUMBERS = {
    "soundstream-rates": numbers_of_rates,
    "starts": numbers_of_starts,
    "soundstream-starts": numbers_of_soundstream_starts,
}


def write_headline(studies: Sequence[Results]) -> None:
    """The README's effects, as a table and as a figure."""
    from analysis.figures.effects import effect_figure
    from analysis.figures.style import save, style
    from analysis.statistics.contrasts import contrasts_of_studies

    whole = README.read_text(encoding="utf-8")
    shown = contrasts(studies, HEADLINE_BITRATE, EFFECTS)
    README.write_text(between(whole, "headline", f"\n{shown}\n"), encoding="utf-8")
    frame = contrasts_of_studies(studies, bitrate=HEADLINE_BITRATE, effects=EFFECTS)
    with style("paper") as scale:
        save(effect_figure(frame, scale), PICTURE.with_suffix(""), ["svg"])


def write_figures(results: Results, folder: Path, page: str | None) -> list[str]:
    """The figures that `page` shows, or all, and the CSV of each unless it is large; their names.

    An imported store has no latents: pictures that show them stay as they are.
    """
    from analysis.figures.writing import prepare, write_all
    from experiments.common.machine import cores

    prepare()
    folder.mkdir(parents=True, exist_ok=True)
    imported = not any(results.latents(run) for run in results.finished["run_id"])
    stay = {
        path.name
        for path in folder.glob("voronoi*")
        if imported and (page is None or f"{results.study}/{path.stem}.png" in page)
    }
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary)
        write_all(results, drawn, style_name="paper", formats=["png"], processes=cores())
        pictures = sorted(
            picture
            for picture in drawn.glob("*.png")
            if (page is None or f"{results.study}/{picture.name}" in page) and picture.name not in stay
        )
        for path in folder.iterdir():
            if path.is_file() and path.name not in stay:
                path.unlink()
        for picture in pictures:
            shrink(picture, folder / picture.name)
            data = picture.with_suffix(".csv")
            if data.stat().st_size < LARGE:
                shutil.copyfile(data, folder / data.name)
    return [picture.stem for picture in pictures]


def write_runs(results: Results, path: Path) -> None:
    """What each run was and gave: its identity, rates, scores and cost."""
    runs = results.runs
    measured = [name for name in runs if name.startswith(("rate/", "usage/", "eval/", "cost/"))]
    runs[[*RUN_COLUMNS, *measured]].to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def cost(results: Results) -> str:
    """A sentence on what the runs took, warm starts left out."""
    runs = results.finished
    training, scoring = runs["cost/train_seconds"].median(), runs["cost/evaluate_seconds"].median()
    heard = runs["cost/audio_seconds_trained"].median()
    return (
        f"{len(runs)} runs, each on a core of a shared machine: {training:.0f} seconds of training and "
        f"{scoring:.0f} of scoring (medians). After its warm start a run hears {heard / 3600:.1f} hours of "
        "audio."
    )


def begin(results: Results, names: list[str]) -> str:
    """A page of what is known without a person."""
    figures = "\n\n".join(f"![{name}]({results.study}/{name}.png)" for name in names)
    question = results.settings.get("question", "")
    shown = ",".join(columns(results))
    differences = CONTRASTS.format(study=results.study) if results.contrasts else ""
    return PAGE.format(
        study=results.study, question=question, columns=shown, contrasts=differences, figures=figures
    )


def between(text: str, name: str, new: str) -> str:
    """`text` with `new` between the comments `name` and `name ends`."""
    pattern = re.compile(rf"(<!-- {name} -->).*?(<!-- {name} ends -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"the page has no <!-- {name} --> and <!-- {name} ends --> to write between")
    return pattern.sub(lambda found: f"{found[1]}{new}{found[2]}", text, count=1)


if __name__ == "__main__":
    main()
