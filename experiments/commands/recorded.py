"""Features of a study's unquantized codec, as a source for `codecbench source-coding`."""

import tempfile
from pathlib import Path

import yaml
from rich.progress import Progress

from analysis import ResultsError, load
from experiments.commands import progress
from experiments.commands.display.terminal import Console
from experiments.data import prepare
from experiments.evaluation import recorded_features
from experiments.tracking.models import logged_model
from experiments.tracking.store import Store, store_uri
from quantizers.checks.sources import Recorded


def features(study: str, data: str | None, tracking_uri: str | None, console: Console) -> Recorded:
    """Features of the unquantized codec of a study, on its corpus. Raises ResultsError."""
    results = load(study, tracking_uri)
    runs = results.finished[results.finished["quantizer"] == "none"].sort_values("seed", kind="stable")
    if runs.empty:
        raise ResultsError(f"study {study!r} has no finished run of `none`; add it to its quantizers")
    run = runs.iloc[0]
    described = results.artifact(run["run_id"], "config.yaml")
    spec = data or results.settings["data.corpus"]
    with tempfile.TemporaryDirectory() as temporary:
        opened = Store(store_uri(tracking_uri), study)
        weights = logged_model.fetch(opened, run["run_id"], Path(temporary))
        if weights is None or described is None:
            raise ResultsError(
                f"run {run['run_id']} of study {study!r} has no weights in the store; train it again with "
                f"`codecbench run {study} --force`"
            )
        config = yaml.safe_load(described.read_text(encoding="utf-8"))
        codec = recorded_features.unquantized(config, weights)
    with progress.progress_bar(console) as preparing:
        shards = prepare(spec, sample_rate=codec.sample_rate, progress=preparing)
    if shards.content_hash != run.get("param/data.content_hash", run["corpus_hash"]):
        raise ResultsError(f"{spec} is not the corpus that the study trains on; give that with --data")
    with Progress(transient=True, console=console, disable=console.muted) as display:
        task = display.add_task("recording features")
        return recorded_features.record(
            codec, shards, lambda done, total: display.update(task, completed=done, total=total)
        )
