"""Output folders of reports and paper kits: made new, or made anew where an earlier one lies."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

MARKER = ".codecbench.json"  # says what was written here, so that nothing else is deleted


class OutputError(ValueError):
    """A folder cannot be written to without deleting what others put there; the message says what to do."""


def prepare_output(output: Path, kind: str, folders: Sequence[str]) -> None:
    """Make `folders` in `output`, empty. What an earlier `kind` (report, paper) left in them is deleted.

    Raises OutputError where one of them holds files and no earlier `kind` was written to `output`.
    """
    marker = output / MARKER
    known = kinds(output)
    ours = {name for names in known.values() for name in names}
    for name in folders:
        folder = output / name
        if folder.exists() and name not in ours and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(
                f"{folder} holds files that no earlier {kind} put there, and writing would delete them. "
                "Remedy: choose another folder with --output, or move it away."
            )
    for name in folders:
        shutil.rmtree(output / name, ignore_errors=True)
        (output / name).mkdir(parents=True)
    marker.write_text(json.dumps({**known, kind: list(folders)}, indent=1) + "\n", encoding="utf-8")


def kinds(output: Path) -> dict[str, list[str]]:
    """What was written to a folder: for each kind its folders; empty without a readable marker."""
    try:
        values = json.loads((output / MARKER).read_text(encoding="utf-8"))
        return {str(kind): [str(name) for name in names] for kind, names in values.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
