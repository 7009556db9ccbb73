"""All documents, and the JSON schemas that are shipped with the package."""

from importlib.resources import files
from typing import Any

from experiments.commands.documents import audio, bottlenecks, leaderboards, runs, studies
from experiments.commands.documents.document import Document
from experiments.common.json_schemas import PlainSchema

DOCUMENTS: tuple[type[Document], ...] = (
    studies.TableDocument,
    studies.PlanDocument,
    studies.PowerDocument,
    runs.RunsDocument,
    runs.ShowDocument,
    runs.CompareDocument,
    leaderboards.LeaderboardDocument,
    audio.EvaluateDocument,
    bottlenecks.RatesDocument,
    bottlenecks.GeometryDocument,
    bottlenecks.SourceCodingDocument,
    bottlenecks.ListQuantizersDocument,
    audio.ListStudiesDocument,
    audio.ListMetricsDocument,
    audio.ListReferencesDocument,
)
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def name_of(model: type[Document]) -> str:
    """Name and version, such as `codecbench.table/1`."""
    return str(model.model_fields["schema_"].default)


def file_of(model: type[Document]) -> str:
    """Name of the file of its schema, such as `table-1.schema.json`."""
    return f"{name_of(model).removeprefix('codecbench.').replace('/', '-')}.schema.json"


def schema_of(model: type[Document]) -> dict[str, Any]:
    """The JSON schema of a document, made from its model."""
    made = model.model_json_schema(by_alias=True, mode="serialization", schema_generator=PlainSchema)
    return {"$schema": DIALECT, **made}


def shipped(model: type[Document]) -> str:
    """The text of the schema in the package. Raises FileNotFoundError."""
    path = files("experiments.commands.documents") / "schemas" / file_of(model)
    return path.read_text(encoding="utf-8")
