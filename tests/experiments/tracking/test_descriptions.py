"""Descriptions for MLflow's UI: within its limits, with names that it takes."""

from pathlib import Path

from experiments.tracking.descriptions import LONGEST, NOTE, metric_name, of_study, origin
from experiments.tracking.store import Store


def test_a_long_table_gives_way_to_its_place() -> None:
    short = of_study("Which?", ["fsq leads.", "By little."], "| a |")
    assert short == "**Which?**\n\nfsq leads. By little.\n\n| a |"
    long = of_study("Which?", ["fsq leads."], "| a |" * 2000)
    assert len(long) <= LONGEST
    assert long.endswith("`tables/comparison.md`.")
    assert len(of_study("?" * 10_000, [], "")) <= LONGEST


def test_a_study_is_summarised_once_for_each_value(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "summed up")
    run_id = store.start("study", origin("summed up"), match={"kind": "study", "run_hash": "x"})
    name = metric_name("summary/pesq/hex ≤ 2 % & [x]")
    assert name == "summary/pesq/hex - 2 - - -x-"
    for value in (1.5, 1.5, 1.6):
        store.summarise(run_id, {name: value}, f"PESQ {value}")
    points = store.client.get_metric_history(run_id, name)
    assert [point.value for point in points] == [1.5, 1.6]
    tags = store.client.get_run(run_id).data.tags
    assert tags[NOTE] == "PESQ 1.6"
    assert tags["mlflow.source.name"] == "codecbench run summed up"
