"""Write the JSON schemas of documents and of study files, and the tables of docs/json.md, from the models.

python docs/make_json.py            # --check: say only whether they are up to date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SCHEMAS = HERE.parent / "experiments" / "commands" / "documents" / "schemas"
PAGE = HERE / "json.md"
STUDY = HERE.parent / "experiments" / "studies" / "study.schema.json"
_PART = re.compile(r"(<!-- documents -->\n).*?(<!-- documents end -->)", re.DOTALL)


def files() -> dict[Path, str]:
    """The text of every file that this script writes."""
    from experiments.commands.documents import catalogue
    from experiments.studies import editor_schema

    made = {
        SCHEMAS / catalogue.file_of(model): json.dumps(catalogue.schema_of(model), indent=1) + "\n"
        for model in catalogue.DOCUMENTS
    }
    described = "\n".join(
        _described(catalogue.name_of(model), catalogue.schema_of(model)) for model in catalogue.DOCUMENTS
    )
    made[STUDY] = editor_schema.text()
    page = PAGE.read_text(encoding="utf-8")
    made[PAGE] = _PART.sub(lambda part: f"{part[1]}\n{described}\n{part[2]}", page)
    return made


def _described(name: str, schema: dict[str, Any]) -> str:
    """A section of the page: the document, then its parts in the order in which they appear."""
    parts = schema.get("$defs", {})
    lines = [f"## {name}", "", schema["description"], "", *_table(schema)]
    for part in _in_order(schema, parts):
        lines += ["", f"**{part}**: {parts[part]['description']}", "", *_table(parts[part])]
    return "\n".join([*lines, ""])


def _in_order(schema: dict[str, Any], parts: dict[str, Any]) -> list[str]:
    """Names of the parts that a schema refers to, each once, the outermost first."""
    names: list[str] = []
    waiting = [schema["properties"]]
    while waiting:
        for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(waiting.pop(0))):
            if name not in names:
                names.append(name)
                waiting.append(parts[name]["properties"])
    return names


def _table(schema: dict[str, Any]) -> list[str]:
    rows = [
        f"| `{key}` | {_kind(value)} | {value.get('description', '').replace('|', chr(92) + '|')} |"
        for key, value in schema["properties"].items()
    ]
    return ["| key | value | meaning |", "|:--|:--|:--|", *rows]


def _kind(value: dict[str, Any]) -> str:
    """The type of a value in words."""
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    if "$ref" in value:
        return value["$ref"].rpartition("/")[2]
    if "anyOf" in value:
        return " or ".join(_kind(each) for each in value["anyOf"])
    if value.get("type") == "array":
        return f"list of {_kind(value['items'])}"
    if value.get("type") == "object":
        below = value.get("additionalProperties")
        return f"mapping to {_kind(below)}" if isinstance(below, dict) else "mapping"
    words = {"number": "number", "integer": "whole number", "string": "text", "boolean": "true or false"}
    return words.get(value.get("type", ""), str(value.get("type", "any value")))


def main() -> None:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for path, text in files().items():
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is out of date; run: python docs/make_json.py")


if __name__ == "__main__":
    main()
