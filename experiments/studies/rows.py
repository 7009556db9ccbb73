"""The quantizers of a study file as rows: lists of names, options and rates of an entry written out."""

from typing import Any

import quantizers
from experiments.studies import axes
from quantizers import registry


def expand(entries: list[Any]) -> tuple[list[Any], list[int]]:
    """Each entry of `quantizers` as one or more choices with one value for each option, and which entry each
    is from.

    Raises AxisError. What is wrong with an entry beyond its axes is left for the study's check.
    """
    rows: list[Any] = []
    origins: list[int] = []
    for number, entry in enumerate(entries):
        try:
            found = _rows(entry) if isinstance(entry, dict) else [entry]
        except axes.AxisError as error:
            raise axes.AxisError(f"quantizers.{number}: {error}") from None
        rows += found
        origins += [number] * len(found)
    return rows, origins


def _rows(entry: dict[str, Any]) -> list[Any]:
    names = entry.get("name")
    if isinstance(names, list):
        label = entry.get("label")
        return [
            row
            for name in names
            for row in _rows({**entry, "name": name, **({"label": f"{name} {label}"} if label else {})})
        ]
    rest = {key: value for key, value in entry.items() if key != "zip"}
    lists = dict(_lists(rest))
    found = axes.combine(lists, entry.get("zip", []))
    if not found:
        return [rest]
    base = rest.get("label") or rest.get("name", "")
    rows = []
    for place in axes.places(found):
        label = axes.row_name(base, found, place).label
        row = {**rest, "label": label, "options": dict(rest.get("options") or {})}
        for key, value in place.items():
            target = row if key == "bits" else row["options"]
            target[key] = value
        rows.append(row)
    return rows


def _lists(entry: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    options = entry.get("options")
    found = [("bits", entry["bits"])] if isinstance(entry.get("bits"), list) else []
    if isinstance(options, dict) and any(isinstance(value, list) for value in options.values()):
        try:
            config = registry.entry(str(entry.get("name"))).cls.config_class
        except quantizers.QuantizerError:  # said by the study's check
            return found
        found += axes.in_options(options, config)
    return found
