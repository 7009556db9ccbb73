"""`codecbench search`: the best bottleneck of a study's search space at a fixed budget of bits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from experiments.commands import outputs, progress
from experiments.commands.display.terminal import Console, PlainTable, messages, output
from experiments.commands.guard import STOPPED, WRONG_INPUT
from experiments.commands.options import (
    Changes,
    Corpus,
    Device,
    Quiet,
    ResultsFolder,
    RunsFolder,
    StudyFile,
    TrackingUri,
    Workers,
    changes_of,
    chosen_device,
)
from experiments.tracking.schema import FINISHED
from experiments.tracking.store import store_uri

if TYPE_CHECKING:
    from experiments.search.trials import SearchOutcome


def search(
    study_file: StudyFile,
    data: Corpus = None,
    changes: Changes = None,
    results: ResultsFolder = Path("results"),
    directory: RunsFolder = Path("runs"),
    workers: Workers = None,
    device: Device = "auto",
    quiet: Quiet = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Search tilings, levels, dimensions and more for the best one, beside random search.

    Start it again to go on after a stop.
    """
    from experiments.execution import executors, study_runner
    from experiments.search import space, trials
    from experiments.studies import runs, sections, study

    try:
        import optuna  # noqa: F401
    except ImportError:
        raise space.SearchError(
            "a search needs Optuna; install it with: pip install 'codecbench[search]'"
        ) from None
    console = messages(quiet)
    loaded = study.load(study_file, changes_of(changes, data))
    if len(corpora := runs.corpora(loaded)) > 1:
        raise space.SearchError(
            f"{study_file}: data: a search is on one corpus, and this study has {len(corpora)}; name one "
            "by --data"
        )
    folder = results / loaded.name / "search"
    outputs.check_folder(folder)
    outputs.check_folder(directory, "--runs")
    uri, chosen = store_uri(tracking_uri), chosen_device(device)  # before a corpus is prepared
    section = loaded.search or sections.Search()
    choices = space.Space(section.space, trials.budget(loaded))
    console.note((loaded.name, "bold"), f": {loaded.question}" if loaded.question else "")
    console.note(
        f"{len(choices.families)} kinds of bottleneck within 2 % of {choices.bits:g} bits a frame "
        f"({', '.join(choices.families)}); {section.trials} x {loaded.train.steps} training steps for each "
        f"of 2 samplers and {len(section.seeds)} seeds"
    )
    for reason in choices.left_out:
        console.say(("left out", "yellow"), f": {reason}")
    remarks: list[str] = []
    with progress.progress_bar(console) as preparing:
        rate = runs.sample_rate(loaded)
        corpus = study_runner.identify(loaded.data.corpus, rate, preparing, remarks.append)
    for line in remarks:
        console.note(line)
    with progress.RunProgress(console) as display:
        outcome = trials.search(
            loaded,
            corpus,
            uri=uri,
            directory=directory,
            executor=executors.create("local", workers=workers),
            device=chosen,
            announce=lambda todo, reused: display.announce(todo, set(map(str, range(reused))), {}),
            show=display.show,
        )
    problem = ""
    if (outcome.trials["status"] == FINISHED).any():
        problem = _report(outcome, folder, console)
        console.note(f"on the test set: codecbench table {loaded.name}")
    if outcome.stopped:
        console.say(("not finished", "yellow"), "; the same command goes on from where it stopped")
        raise typer.Exit(STOPPED)
    if problem:
        console.say(f"error: {problem}")
        raise typer.Exit(WRONG_INPUT)


def _report(outcome: SearchOutcome, folder: Path, console: Console) -> str:
    """Log trials, table and figures with the search's parent run, write them to `folder`, and print the
    Pareto set. Returns a message where the folder could not be written."""
    from analysis.figures import search as search_figures
    from analysis.figures.style import save, style

    best = search_figures.best_frame(outcome.trials, outcome.objectives)
    progress_frame = search_figures.progress_frame(outcome.trials, outcome.objectives[0])
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary)
        outcome.trials.to_csv(drawn / "trials.csv", index=False)
        best.to_csv(drawn / "best.csv", index=False)
        with style("web") as scale:
            figure = search_figures.progress_figure(progress_frame, outcome.objectives[0], scale)
            save(figure, drawn / "best-so-far", ("png", "svg"), progress_frame)
            figure = search_figures.trials_figure(outcome.trials, outcome.objectives, scale)
            save(figure, drawn / "pareto", ("png", "svg"), outcome.trials)
        outcome.store.log_files(outcome.parent_id, drawn, "search")
        problem = outputs.save_folder(drawn, folder)
    columns = ["bits", *(name for name in outcome.objectives if name != "rate/bits_per_frame")]
    table = PlainTable("bottleneck", *columns, "found by")
    for row in best.to_dict("records"):
        table.add(str(row["label"]), *(f"{row[name]:.4g}" for name in columns), str(row["sampler"]))
    output().table(table)
    console.note(search_figures.caption(outcome.trials))
    if not problem:
        console.note(f"trials and figures in {folder}: trials.csv, best-so-far.png, pareto.png")
    return problem
