from pathlib import Path

from experiments import metrics

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_every_metric_is_documented_with_its_cost():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.count("|") == 7]
    for name in metrics.available():
        metric = metrics.get(name)
        (row,) = [row for row in rows if f"`{name}`" in row.split("|")[1]]
        assert metric.backend in row
        assert metric.cost.split(",")[0] in row, (name, row)
        assert (f"`{name}` *" in row) == metric.core, name


def test_units_and_directions_are_those_of_the_metrics():
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.count("|") == 7]
    for name, (unit, higher_is_better) in metrics.facts().items():
        (cell,) = [row[2].strip() for row in rows if f"`{name}`" in row[1]]
        if cell == "as above":
            assert metrics.facts()[name.removesuffix("_torchcrepe")] == (unit, higher_is_better)
            continue
        words = [unit, {True: "up", False: "down", None: ""}[higher_is_better]]
        assert cell == ", ".join(filter(None, words)), name
