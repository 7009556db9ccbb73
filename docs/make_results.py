"""Put the table, the statistics and the figures of studies into docs/results/.

    codecbench run tilings-matched-rate --data manifest:corpus.csv
    python docs/make_results.py tilings-matched-rate

Of each study, docs/results/STUDY/ gets the figures that the page docs/results/STUDY.md shows, the CSV behind
each, and `runs.csv`; the page gets its table between the two `table` comments, and its cost between the
`cost` ones. What people wrote around them stays; a page that is missing is begun, with all figures.
The differences that a study was made for, `CONTRASTS`, stand between the `contrasts` comments, and the first
of those of `HEADLINE` in the README.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from make_gallery import shrink

if TYPE_CHECKING:
    from analysis.results.study_results import Results

HERE = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
HEADLINE = "starts"  # a study at one rate
# Differences that a study was made for: what they are called, the first row, and the row less it.
CONTRASTS = {
    "starts": (
        ("`fsq`: from data less from random", "fsq start=random", "fsq start=data"),
        ("`q2d2-hex`: from data less from random", "q2d2-hex start=random", "q2d2-hex start=data"),
        ("`vq`: from data less from random", "vq start=random", "vq start=data"),
        ("`vq` less `fsq`, both from random", "fsq start=random", "vq start=random"),
        ("`vq` less `fsq`, both from data", "fsq start=data", "vq start=data"),
        ("`vq` less `fsq` fitted, both from data", "fsq fitted start=data", "vq start=data"),
        ("`q2d2-hex` less `fsq`, both from data", "fsq start=data", "q2d2-hex start=data"),
        ("`rvq`: from data less from random", "rvq start=random", "rvq start=data"),
        ("`fsq` from data: fitted less the paper's channels", "fsq start=data", "fsq fitted start=data"),
        (
            "`q2d2-hex` from data: fitted less the paper's channels",
            "q2d2-hex start=data",
            "q2d2-hex fitted start=data",
        ),
        ("`vq` less `q2d2-hex`, both from data", "q2d2-hex start=data", "vq start=data"),
        ("`rvq` less `fsq`, both from data", "fsq start=data", "rvq start=data"),
        ("`rvq` less `fsq` fitted, both from data", "fsq fitted start=data", "rvq start=data"),
        (
            "`q2d2-hex` fitted less `fsq` fitted, both from data",
            "fsq fitted start=data",
            "q2d2-hex fitted start=data",
        ),
    ),
    "dimensions": tuple(
        (
            f"`{name}` at {bits} bits: {fit} less the paper's channels",
            f"{name} {bits} bit",
            f"{name} {fit} {bits} bit",
        )
        for bits in (12, 20, 40)
        for name in ("fsq", "q2d2-hex")
        for fit in ("fitted channels", "fitted")
    ),
}
HEADLINE_ROWS = 7  # of them, the first
COLUMNS = ("bits_per_frame", "token_rate", "bitrate", "entropy_bitrate", "used_fraction", "entropy_fraction")
JOINT = ("joint_used_fraction", "joint_uniform_used_fraction", "joint_perplexity", "joint_uniform_perplexity")
OF_STUDY = {"codebook-size": JOINT}  # what its question is about
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

{figures}

**Cost.** <!-- cost --><!-- cost ends -->
"""


def main() -> None:
    """Write what the named studies have."""
    from analysis import load

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
        if study in CONTRASTS:
            text = between(text, "contrasts", f"\n{contrasts(results)}\n")
        page.write_text(between(text, "cost", cost(results)), encoding="utf-8")
        if study == HEADLINE:
            whole = README.read_text(encoding="utf-8")
            README.write_text(
                between(whole, "headline", f"\n{contrasts(results, HEADLINE_ROWS)}\n"), encoding="utf-8"
            )
        size = sum(path.stat().st_size for path in (HERE / study).iterdir())
        print(f"wrote {page} and {len(names)} figures, {size / 1e6:.2f} MB")


def columns(results: Results) -> tuple[str, ...]:
    """Names of the columns that the study has values for."""
    from analysis.results.columns import logged
    from analysis.results.study_metrics import quality_keys

    asked = (*COLUMNS, *OF_STUDY.get(results.study, ()), *quality_keys(results))
    return tuple(logged(asked, results.runs.columns))


def table(results: Results) -> str:
    """The comparison in Markdown."""
    from analysis.tables.comparison import comparison
    from analysis.tables.formats import render

    return render(comparison(results, columns(results)), "markdown")


def contrasts(results: Results, most: int | None = None) -> str:
    """The study's `CONTRASTS`, or the first `most` of them, with 95 % intervals, in Markdown."""
    from analysis.results.columns import select
    from analysis.results.study_metrics import quality_keys
    from analysis.statistics.intervals import paired_difference

    shown = [column for column in select(quality_keys(results)) if column.higher_is_better is not None]
    heads = [f"{column.header} {'↑' if column.higher_is_better else '↓'}" for column in shown]
    lines = [f"| difference | {' | '.join(heads)} |", f"| :-- |{' --: |' * len(shown)}"]
    finished = results.finished.sort_values("seed")
    runs = {label: list(own["run_id"]) for label, own in finished.groupby("label")}
    for name, first, second in CONTRASTS[results.study][:most]:
        cells = []
        for column in shown:
            scores = [results.scores(column.key, runs[label]) for label in (first, second)]
            found = paired_difference(*scores)
            text = f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]".replace("-", "−")
            cells.append(f"**{text}**" if found.low > 0 or found.high < 0 else text)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_figures(results: Results, folder: Path, page: str | None) -> list[str]:
    """The figures that `page` shows, or all, and the CSV of each unless it is large; their names.

    An imported store has no latents: pictures that show them stay as they are.
    """
    from analysis.figures.writing import prepare, write_all
    from experiments.common.machine import cores

    prepare()
    folder.mkdir(parents=True, exist_ok=True)
    imported = not any(results.latents(run) for run in results.finished["run_id"])
    stay = {path.name for path in folder.glob("voronoi*") if imported}
    for path in folder.iterdir():
        if path.name not in stay:
            path.unlink()
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary)
        write_all(results, drawn, style_name="paper", formats=["png"], processes=cores())
        pictures = sorted(
            picture
            for picture in drawn.glob("*.png")
            if (page is None or f"{results.study}/{picture.name}" in page) and picture.name not in stay
        )
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
    training, scoring = runs["cost/train_seconds"].sum(), runs["cost/evaluate_seconds"].sum()
    heard = runs["cost/audio_seconds_trained"].median()
    rate = (runs["cost/audio_seconds_trained"] / runs["cost/train_seconds"]).median()
    return (
        f"{len(runs)} runs, each on a core: {training / 3600:.1f} hours of training, {scoring / 3600:.1f} "
        f"of scoring. After its warm start a run hears {heard / 3600:.1f} hours of audio, {rate:.0f} seconds "
        "of it a second."
    )


def begin(results: Results, names: list[str]) -> str:
    """A page of what is known without a person."""
    figures = "\n\n".join(f"![{name}]({results.study}/{name}.png)" for name in names)
    question = results.settings.get("question", "")
    shown = ",".join(columns(results))
    return PAGE.format(study=results.study, question=question, columns=shown, figures=figures)


def between(text: str, name: str, new: str) -> str:
    """`text` with `new` between the comments `name` and `name ends`."""
    pattern = re.compile(rf"(<!-- {name} -->).*?(<!-- {name} ends -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"the page has no <!-- {name} --> and <!-- {name} ends --> to write between")
    return pattern.sub(lambda found: f"{found[1]}{new}{found[2]}", text, count=1)


if __name__ == "__main__":
    main()
