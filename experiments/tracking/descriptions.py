"""Descriptions of runs for people who open MLflow: who ran what, with what outcome, in a few sentences."""

import getpass
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.studies.runs import Run

NOTE = "mlflow.note.content"  # Markdown that the UI shows above a run
LONGEST = 5000  # characters of a tag that every version of MLflow takes


def origin(study: str) -> dict[str, str]:
    """Tags that fill the UI's columns User and Source."""
    tags = {"mlflow.source.name": f"codecbench run {study}", "mlflow.source.type": "LOCAL"}
    with suppress(Exception):  # there may be no such user, as in a container
        tags["mlflow.user"] = getpass.getuser()
    return tags


def of_run(run: "Run", values: Mapping[str, float], place: str) -> str:
    """Sentences on a finished run: the system, its rate, its training, its scores, and a link to its study.

    values: what the run logged at its end. place: `experiment/run` of the study in this store.
    """
    rate = ""
    if "rate/bitrate" in values:
        bits = values["rate/bits_per_frame"]
        rate = f" at {values['rate/bitrate'] / 1000:.2f} kbit/s ({bits:.2f} bits per frame)"
    start = run.train.warm_start
    begun = {
        "steps": f" after a warm start of {start.steps} steps" if start else "",
        "weights": f" from the released weights `{start.weights}`" if start else "",
        "checkpoint": f" from the checkpoint `{start.checkpoint}`" if start else "",
    }
    after = next((begun[key] for key in begun if start is not None and getattr(start, key) is not None), "")
    scores = ", ".join(
        f"{name} {values[f'eval/{name}']:.3g}" for name in run.evaluate.metrics if f"eval/{name}" in values
    )
    where = "" if run.scored == run.corpus else f" of {run.scored.name}"
    experiment, _, parent = place.partition("/")
    return (
        f"**{run.label}**, seed {run.seed}: `{run.quantizer}`{rate} on {run.corpus.name}, trained "
        f"{run.train.steps} steps{after}. On the test set{where}: {scores or 'not scored'}. "
        f"Run of the study [{run.study}](#/experiments/{experiment}/runs/{parent})."
    )


def of_study(question: str, answer: list[str], table: str) -> str:
    """Question, answer and table of a study as Markdown; without the table where it is too long for a tag."""
    parts = [f"**{question}**" if question else "", " ".join(answer)]
    text = "\n\n".join(filter(None, parts))
    whole = f"{text}\n\n{table}"
    if len(whole) <= LONGEST:
        return whole
    return f"{text[: LONGEST - 100]}\n\nThe table is among the artifacts: `tables/comparison.md`."


def metric_name(text: str) -> str:
    """`text` with nothing that MLflow refuses in the name of a metric."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "-" for c in text)
