"""Rows of the quantizers of a study file: lists of names, options and rates of an entry written out."""

from typing import Any

import quantizers
from experiments.studies import axes
from quantizers import registry


def expand(entries: list[Any]) -> tuple[list[Any], list[int]]:
    """Expand the lists of each entry of `quantizers` into choices with one value for each option; with the
    number of the entry that each is from.

    Raises AxisError. What is wrong with an entry beyond its axes is left for the study's check.
    """
    rows: list[Any] = []
    origins: list[int] = []
    for number, entry in enumerate(entries):
        try:
            choices = _rows(entry) if isinstance(entry, dict) else [entry]
        except axes.AxisError as error:
            raise axes.AxisError(f"quantizers.{number}: {error}") from None
        rows += choices
        origins += [number] * len(choices)
        axes.check_rows(len(rows))
    return rows, origins


def _rows(entry: dict[str, Any]) -> list[Any]:
    names = entry.get("name")
    if isinstance(names, list):
        if not names or not all(isinstance(name, str) for name in names):
            raise axes.AxisError("name: write names of quantizers, such as [fsq, q2d2-hex]")
        label = entry.get("label")
        rows: list[Any] = []
        for name in names:
            rows += _rows({**entry, "name": name, **({"label": f"{name} {label}"} if label else {})})
            axes.check_rows(len(rows))
        return rows
    rest = {key: value for key, value in entry.items() if key != "zip"}
    lists = dict(_lists(rest))
    combined = axes.combine(lists, entry.get("zip", []))
    if not combined:
        return [rest]
    axes.check_rows(axes.number_of_places(combined))
    base = str(rest.get("label") or rest.get("name", ""))
    rows = []
    for place in axes.places(combined):
        label = axes.row_name(base, combined, place).label
        row = {**rest, "label": label, "options": dict(rest.get("options") or {})}
        for key, value in place.items():
            target = row if key == "bits" else row["options"]
            target[key] = value
        rows.append(row)
    return rows


def _lists(entry: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    options = entry.get("options")
    lists = [("bits", entry["bits"])] if isinstance(entry.get("bits"), list) else []
    if isinstance(options, dict) and any(isinstance(value, list) for value in options.values()):
        try:
            config = registry.entry(str(entry.get("name"))).cls.config_class
        except quantizers.QuantizerError:  # said by the study's check
            return lists
        lists += axes.in_options(options, config)
    return lists
