"""Print a JSON document: checked by its model, keys in a fixed order, numbers that are not finite as null."""

import json
import math
from typing import Annotated, Any

import typer
from pydantic import BaseModel, BeforeValidator, ConfigDict


def _finite(value: Any) -> Any:
    """`value`, or None for a number that is not finite, which JSON cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Real = Annotated[float | None, BeforeValidator(_finite)]  # null: not known, or not finite
Count = Annotated[int | None, BeforeValidator(_finite)]  # likewise


class Part(BaseModel):
    """A part of a document: a key that its model does not know is a fault of ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Document(Part):
    """A document. Each has the field `schema_`, written as `schema`, with its name and version."""


def text_of(document: Document) -> str:
    """The document as JSON text in ASCII, so that it survives every terminal's encoding."""
    return json.dumps(document.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False)


def emit(document: Document) -> None:
    """Print the document to stdout."""
    typer.echo(text_of(document))
