"""Write a JSON schema of study files, so that editors complete and check them (`study.schema.json`).

The schema is made from the models that check studies, the registries of names, and the types of options. It
accepts every study that `study.check` accepts. It finds most faults that `study.check` finds: keys, types,
bounds and names, but no rule between two keys.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, TypeAdapter

import quantizers
from codec import backbones, references, weights
from codec.losses import objectives
from experiments import metrics
from experiments.common.json_schemas import PlainSchema
from experiments.data.sources.registry import KINDS
from experiments.studies import sections
from experiments.studies.described import INTERNAL
from experiments.studies.fields import Once
from experiments.studies.files import available
from experiments.studies.study import Study
from quantizers import registry
from quantizers.option_checks import LIMITS
from quantizers.option_descriptions import option_descriptions

DIALECT = "http://json-schema.org/draft-07/schema#"  # the newest that editors of YAML know in full
Schema = dict[str, Any]

# Sections any key of which may have a list of values, see `axes`.
_SWEPT = ("BackboneChoice", "Data", "Train", "WarmStart", "ObjectiveChoice")
_LINK = re.compile(r",? see \[below\]\([^)]*\)")  # of the page that has the same descriptions
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
_LENGTHS = {"minLength": "minItems", "maxLength": "maxItems"}
_SWEPT_KEYS = ("bits", "bitrate", "backbone", "data", "train")


def text() -> str:
    """The schema as JSON, made now: with the quantizers of installed packages, too."""
    return json.dumps(study_schema(), indent=1) + "\n"


def study_schema() -> Schema:
    """The schema of a study file."""
    made = Study.model_json_schema(schema_generator=PlainSchema)
    parts: dict[str, Schema] = made["$defs"]
    keys = {name: value for name, value in made["properties"].items() if name not in INTERNAL}
    parts.pop("Axis", None)
    for name, part in parts.items():
        _unique(part, getattr(sections, name))
    _names(parts)
    for name in _SWEPT:
        part = parts[name]["properties"]
        parts[name]["properties"] = {key: _swept(value) for key, value in part.items()}
    _choices(parts)
    for key in _SWEPT_KEYS:
        keys[key] = _swept(keys[key])
    whole = {
        "$schema": DIALECT,
        "title": "codecbench study",
        "description": "A study: several quantizers at one rate, with everything else held fixed.",
        "type": "object",
        "properties": {"extends": _extends(), **keys, "zip": _zip()},
        "required": ["name"],
        "anyOf": [{"required": ["quantizers"]}, {"required": ["extends"]}],
        "additionalProperties": False,
        "$defs": parts,
    }
    plain: Schema = _in_draft_7(json.loads(json.dumps(whole)))
    return plain


def _extends() -> Schema:
    return {
        "description": "name of a shipped study, or path of a study file: this file changes some of its keys",
        "anyOf": [{"enum": [*available()]}, {"type": "string", "pattern": r"\.ya?ml$"}],
    }


def _zip() -> Schema:
    keys = {"type": "array", "items": {"type": "string"}}
    return {
        "description": "groups of keys whose lists are paired value by value instead of combined as a grid, "
        "such as [[bitrate, backbone]]",
        "anyOf": [{"type": "array", "items": {**keys, "minItems": 2}}, keys],
    }


def _swept(value: Schema) -> Schema:
    """A value of a key, or a list of such values."""
    told: Schema = {key: value[key] for key in ("description", "default") if key in value}
    one = {key: part for key, part in value.items() if key not in told}
    return {**told, "anyOf": [one, {"type": "array", "minItems": 1, "items": one}]}


def _unique(part: Schema, model: type[BaseModel]) -> None:
    """Mark the lists whose entries may stand only once."""
    for name, field in model.model_fields.items():
        if Once in field.metadata:
            part["properties"][name]["uniqueItems"] = True


def _names(parts: Mapping[str, Schema]) -> None:
    """List the known names in every key that takes a name."""
    names = {"enum": [*metrics.available()]}
    for part in ("Evaluate", "Robustness"):
        parts[part]["properties"]["metrics"]["items"] = names
    released = parts["WarmStart"]["properties"]["weights"]
    released["anyOf"] = [{"enum": [*weights.available()]}, {"type": "null"}]
    parts["WarmStart"]["minProperties"] = 1
    known = f"^({'|'.join(KINDS)})(:|$)"
    parts["Data"]["properties"]["corpus"]["pattern"] = known
    parts["Data"]["properties"]["test"]["anyOf"][0]["pattern"] = known
    parts["Search"]["properties"]["objectives"]["items"]["pattern"] = "^(validation|rate|cost)/"


def _choices(parts: dict[str, Schema]) -> None:
    """Let choices be one word, and give each name its options."""
    quantizer = parts["QuantizerChoice"]
    keys = quantizer["properties"]
    names = {"enum": [*quantizers.available()]}
    keys["name"] = {
        "description": keys["name"]["description"],
        "anyOf": [names, {"type": "array", "minItems": 1, "items": names}],
    }
    keys["bits"] = _swept(keys["bits"])
    keys["zip"] = _zip()
    quantizer["allOf"] = _rules({name: _quantizer_options(name) for name in quantizers.available()})
    parts["QuantizerChoice"] = _one_word(names, quantizer)

    backbone = parts["BackboneChoice"]
    names = {"enum": [*backbones.available()]}
    backbone["properties"]["name"]["anyOf"] = [names, {"type": "array", "minItems": 1, "items": names}]
    backbone["allOf"] = _rules({name: _backbone_options(name) for name in backbones.available()})
    parts["BackboneChoice"] = _one_word(names, backbone)

    objective = parts["ObjectiveChoice"]
    names = {"enum": [*objectives.PRESETS]}
    weights_by_name = _of_dataclass(objectives.Objective)
    objective["properties"]["name"]["anyOf"] = [names, {"type": "array", "minItems": 1, "items": names}]
    objective["properties"]["options"]["anyOf"] = [
        weights_by_name,
        {"type": "array", "minItems": 1, "items": weights_by_name},
        {"type": "null"},
    ]
    parts["ObjectiveChoice"] = _one_word(names, objective)

    reference = parts["ReferenceChoice"]
    known = references.available()
    reference["properties"]["name"] = {**reference["properties"]["name"], "enum": [*known]}
    reference["allOf"] = _rules({name: _of_dataclass(references.get(name)) for name in known})
    word = {"anyOf": [{"enum": [*known]}, {"type": "string", "pattern": f"^({'|'.join(known)}):."}]}
    parts["ReferenceChoice"] = _one_word(word, reference)

    data = parts["Data"]
    corpus = data["properties"]["corpus"]["anyOf"][0]
    parts["Data"] = _one_word({"anyOf": [{"enum": ["demo"]}, corpus]}, data)


def _one_word(word: Schema, mapping: Schema) -> Schema:
    """A choice in one word, or as a mapping."""
    told = mapping.pop("description", "")
    return {"description": told, "anyOf": [word, mapping]}


def _rules(options: Mapping[str, Schema]) -> list[Schema]:
    """Rules that what has a name, alone or in a list of names, has the options of that name."""
    names: dict[str, list[str]] = {}
    for name, schema in options.items():
        names.setdefault(json.dumps(schema), []).append(name)
    rules = []
    for same, alike in names.items():
        named = {"anyOf": [{"enum": alike}, {"type": "array", "contains": {"enum": alike}}]}
        condition = {"properties": {"name": named}, "required": ["name"]}
        rules.append({"if": condition, "then": {"properties": {"options": json.loads(same)}}})
    return rules


# Options that only steer a choice by bits, where they are no whole numbers.
_STEERING: Mapping[str, Any] = {
    "channels": int | Literal["paper", "fit", "released"],
    "allocation": Literal["even", "water-filling"],
}


def _quantizer_options(name: str) -> Schema:
    entry = registry.entry(name)
    hints = get_type_hints(entry.cls.config_class)
    meanings = option_descriptions(name)
    keys = {}
    for key in entry.options:
        value = _of_type(hints.get(key) or _STEERING.get(key, int))
        value = _limited(value, LIMITS[key]) if key in LIMITS else value
        keys[key] = _swept({**({"description": meanings[key]} if key in meanings else {}), **value})
    return {"type": "object", "properties": keys, "additionalProperties": False}


def _backbone_options(name: str) -> Schema:
    made = _of_dataclass(type(backbones.get(name)))
    made["properties"] = {key: _swept(value) for key, value in made["properties"].items()}
    return made


def _of_dataclass(cls: type) -> Schema:
    hints = get_type_hints(cls)
    keys = {field.name: _of_type(hints[field.name]) for field in _fields(cls)}
    return {"type": "object", "properties": keys, "additionalProperties": False}


def _fields(cls: Any) -> Iterable[dataclasses.Field[Any]]:
    return dataclasses.fields(cls)


def _of_type(hint: Any) -> Schema:
    made = TypeAdapter(hint).json_schema(schema_generator=PlainSchema)
    parts = made.pop("$defs", {})
    resolved: Schema = _resolved(made, parts)
    return resolved


def _resolved(value: Any, parts: Mapping[str, Schema]) -> Any:
    """A schema with its parts in the place of what refers to them."""
    if isinstance(value, list):
        return [_resolved(each, parts) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _resolved(parts[value["$ref"].rpartition("/")[2]], parts)
    return {key: _resolved(each, parts) for key, each in value.items()}


def _limited(value: Schema, most: int) -> Schema:
    """A number of at most `most`, or a list of such numbers."""
    if value.get("type") == "array":
        return {**value, "items": _limited(value["items"], most)}
    if "anyOf" in value:
        return {**value, "anyOf": [_limited(each, most) for each in value["anyOf"]]}
    return {**value, "maximum": most} if value.get("type") in ("integer", "number") else value


def _in_draft_7(value: Any) -> Any:
    """A schema in the words of draft 7: one `items` for the equal entries of a tuple, and by their names the
    bounds that pydantic leaves in its own words where a value is looked at before."""
    if isinstance(value, list):
        return [_in_draft_7(each) for each in value]
    if isinstance(value, str):
        return _LINK.sub("", value)
    if not isinstance(value, dict):
        return value
    words = {**_BOUNDS, **_LENGTHS} if value.get("type") == "array" else _BOUNDS
    named = isinstance(value.get("type"), str)  # else it is a mapping of keys
    made = {words.get(key, key) if named else key: _in_draft_7(each) for key, each in value.items()}
    if isinstance(entries := made.get("prefixItems"), list):
        del made["prefixItems"]
        made["items"] = entries[0] if all(each == entries[0] for each in entries) else {"anyOf": entries}
    return made
