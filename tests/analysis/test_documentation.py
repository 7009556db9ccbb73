"""The code of the pages on reading a study runs as it stands there."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

import analysis

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["notebook.md", "figures.md", "gallery.md"])
def test_code_of_a_page_runs(
    page: str, gallery: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gallery.uri)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    plt.close("all")


def test_the_gallery_is_the_page_that_its_script_writes() -> None:
    path = DOCS / "make_gallery.py"
    spec = importlib.util.spec_from_file_location("make_gallery", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.page() == (DOCS / "gallery.md").read_text(encoding="utf-8")


def test_the_face_of_the_package_has_what_it_names() -> None:
    for name in analysis.__all__:
        assert getattr(analysis, name) is not None, name
    with pytest.raises(AttributeError, match="has no attribute 'tabel'"):
        analysis.tabel  # noqa: B018
