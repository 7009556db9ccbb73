"""Read the JSON schema of study files from the package, or make it where other packages add quantizers."""

from importlib import import_module
from importlib.metadata import entry_points
from importlib.resources import files

FILE = "study.schema.json"


def shipped() -> str:
    """The text of the schema in the package."""
    return (files("experiments.studies") / FILE).read_text(encoding="utf-8")


def text() -> str:
    """The schema for the quantizers that are installed. Imports torch only where some are not ours."""
    if not entry_points(group="codecbench.quantizers"):
        return shipped()
    return str(import_module("experiments.studies.editor_schema").text())
