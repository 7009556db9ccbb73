"""`codecbench search`: the best bottleneck of a study's search space at a fixed budget of bits."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import typer
import yaml

from experiments.commands import outputs, progress
from experiments.commands.display.terminal import Console, PlainTable, messages, output
from experiments.commands.guard import FAILED, STOPPED, WRONG_INPUT
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
    from experiments.execution.executors.contract import Executor
    from experiments.search.trials import SearchOutcome
    from experiments.studies.study import Study


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
    """Search for the best grid, levels and channels, with random search as the baseline.

    With `search.families`, every family is tuned with equal effort instead.
    If it is interrupted, start the same command again: it resumes.
    """
    from experiments.execution import executors, study_runner
    from experiments.search import space, trials
    from experiments.studies import runs, sections, study

    console = messages(quiet)
    loaded = study.load(study_file, changes_of(changes, data))
    if loaded.search is not None and loaded.search.families:
        place = executors.create("local", workers=workers)
        _tune(loaded, results, directory, place, chosen_device(device), store_uri(tracking_uri), console)
        return
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise space.SearchError(
            "a search needs Optuna; install it with: pip install 'codecbench[search]'"
        ) from None
    if loaded.data.test is not None:
        raise space.SearchError(
            f"{study_file}: data.test: a search judges trials by the validation split; leave it out"
        )
    if len(corpora := runs.corpora(loaded)) > 1:
        raise space.SearchError(
            f"{study_file}: data: a search uses one corpus, and this study has {len(corpora)}; choose one "
            "with --data"
        )
    folder = results / loaded.name / "search"
    outputs.check_folder(folder)
    outputs.check_folder(directory, "--runs")
    uri, chosen = store_uri(tracking_uri), chosen_device(device)  # before a corpus is prepared
    section = loaded.search or sections.Search()
    choices = space.Space(section.space, trials.budget(loaded))
    console.note((loaded.name, "bold"), f": {loaded.question}" if loaded.question else "")
    console.note(
        f"{len(choices.families)} kinds of bottleneck within 2 % of {choices.bits:g} bits per frame "
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
        console.say(("not finished", "yellow"), "; start the same command again to resume")
        raise typer.Exit(STOPPED)
    if problem:
        console.say(f"error: {problem}")
        raise typer.Exit(WRONG_INPUT)


def _tune(
    loaded: Study, results: Path, directory: Path, place: Executor, device: str, uri: str, console: Console
) -> None:
    """Do the trials of every family, print them, and write the study of the winners."""
    from experiments.execution import study_runner
    from experiments.search import families, trials

    assert loaded.search is not None
    study_runner.require_weights(loaded)
    folder = results / loaded.name / "search"
    outputs.check_folder(folder)
    outputs.check_folder(directory, "--runs")
    bits, objective = trials.budget(loaded), loaded.search.objectives[0]
    drawn = families.draw(loaded, bits)
    study = families.trial_study(loaded, drawn, bits)
    console.note((loaded.name, "bold"), f": {loaded.question}" if loaded.question else "")
    console.note(
        f"{loaded.search.trials} trials for each of {len(loaded.search.families)} families within 2 % of "
        f"{bits:g} bits per frame, {loaded.train.steps} training steps each; the trial with the lowest "
        f"{objective} of its family wins"
    )
    remarks: list[str] = []
    with progress.progress_bar(console) as preparing:
        corpora = study_runner.identify_all(study, preparing, remarks.append)
    for line in remarks:
        console.note(line)
    with progress.RunProgress(console) as display:
        summary, store = study_runner.run_study(
            study,
            corpora,
            uri=uri,
            directory=directory,
            executor=place,
            device=device,
            announce=display.announce,
            show=display.show,
        )
    frame = families.outcomes(drawn, summary.runs, store, objective)
    best = families.winners(frame, objective)
    table = PlainTable("family", "options", "bits", objective, "", texts=("options",))
    for row in frame.to_dict("records"):
        won = best.get(str(row["family"])) == row["trial"]
        loss = f"{row[objective]:.4f}" if row["status"] == FINISHED else str(row["status"] or "not done")
        options = ", ".join(f"{name} {value}" for name, value in json.loads(str(row["options"])).items())
        table.add(str(row["family"]), options, f"{row['bits']:.2f}", loss, "best" if won else "")
    output().table(table)
    if summary.stopped:
        console.say(("not finished", "yellow"), "; start the same command again to resume")
        raise typer.Exit(STOPPED)
    if not best:
        console.say(f"error: no trial finished; see why: codecbench runs {study.name}")
        raise typer.Exit(FAILED)
    if missing := [family.row for family in loaded.search.families if family.row not in best]:
        console.say(("left out", "yellow"), f": no trial of {', '.join(missing)} finished")
    with tempfile.TemporaryDirectory() as temporary:
        frame.to_csv(Path(temporary) / "trials.csv", index=False)
        tuned = families.tuned_study(loaded, drawn, best, bits)
        head = f"# Winners of `codecbench search {loaded.name}` beside the defaults, with other seeds.\n"
        text = yaml.safe_dump(tuned, sort_keys=False, allow_unicode=True)
        (Path(temporary) / "tuned.yaml").write_text(head + text, encoding="utf-8")
        problem = outputs.save_folder(Path(temporary), folder)
    if problem:
        console.say(f"error: {problem}")
        raise typer.Exit(WRONG_INPUT)
    console.say(f"on the test set: codecbench run {folder / 'tuned.yaml'}", to_copy=True)


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
