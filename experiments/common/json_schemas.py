"""JSON schemas made from pydantic's models, without the titles that only repeat the keys."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import CoreSchema


class PlainSchema(GenerateJsonSchema):
    """A generator for `model_json_schema` that gives no titles."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No key has a title."""
        return False

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        """The schema, and its parts under `$defs`, none with a title."""
        made = super().generate(schema, mode)
        for part in (made, *made.get("$defs", {}).values()):
            part.pop("title", None)
        return made
