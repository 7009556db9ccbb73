"""The pages say what the models of study files say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from experiments.studies import sections, study
from experiments.studies.described import INTERNAL, key_table

DOCS = Path(__file__).parents[3] / "docs"
MODELS = [
    *(
        study.Study,
        sections.QuantizerChoice,
        sections.ReferenceChoice,
        sections.BackboneChoice,
        sections.Data,
    ),
    *(sections.Train, sections.WarmStart, sections.ObjectiveChoice, sections.Evaluate),
    *(sections.Robustness, sections.Search, sections.SearchSpace, sections.Pruner),
]


@pytest.fixture(scope="module")
def make_keys() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_keys", DOCS / "make_keys.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["studies.md", "training.md", "search.md"])
def test_tables_of_keys_are_up_to_date(make_keys: ModuleType, page: str) -> None:
    assert page in make_keys.PAGES
    text = (DOCS / page).read_text(encoding="utf-8")
    assert "<!-- keys of " in text
    assert make_keys.with_tables(text) == text, "run: python docs/make_keys.py"


@pytest.mark.parametrize("model", MODELS)
def test_every_key_is_described(model: type[BaseModel]) -> None:
    table = key_table(model)
    for name, field in model.model_fields.items():
        if name not in INTERNAL:
            assert field.description, f"{model.__name__}.{name}"
            assert f"| `{name}` |" in table


def test_defaults_and_bounds_are_those_that_are_checked() -> None:
    rows = dict(line.split(" | ", 1) for line in key_table(sections.Train).splitlines()[2:])
    assert rows["| `crop_seconds`"].startswith("`0.5` | above 0 to 600 | length of a crop in seconds")
    assert rows["| `betas`"].startswith("`[0.9, 0.999]` | from 0, below 1 | the two betas of AdamW")
    assert rows["| `gradient_clip`"].startswith("`5.0` | above 0 to 1,000,000,000 |")
    assert rows["| `precision`"].startswith("`auto` | `auto`, `bf16`, `fp16`, `fp32` |")
    assert rows["| `warm_start`"].startswith("`null` |  |")
    assert "| `seeds` | `[0]` | 0 to 2^63 - 1 |" in key_table(study.Study)
    assert "| `noise` | `[]` | -20 to 100 |" in key_table(sections.Robustness)
    assert "| `name` | must be given | at most 100 characters |" in key_table(study.Study)
