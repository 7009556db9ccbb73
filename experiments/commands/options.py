"""Options that several commands share, and tables of plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


Names = Annotated[list[str] | None, typer.Argument(help="Registered names; none means all.")]


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        numeric = index > 0 and column.split()[0] not in (
            "configuration",
            "options",
            "paper",
            "family",
            "codebook",
            "what",
        )
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    # A table is not cut to a default width of 80 where the output is a file.
    Console(width=None if console.is_terminal else 200).print(table)


def override_list(values: list[str] | None, corpus: str | None) -> list[str]:
    """The overrides of `--set` and `--data`."""
    return [*(values or []), *([f"data={corpus}"] if corpus is not None else [])]


def chosen_device(name: str) -> str:
    """The device that `name` means here. Raises BadParameter where there is no such device."""
    import torch

    if name != "auto":
        try:
            torch.zeros(1, device=name)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise typer.BadParameter(f"{name}: {reason}; use --device cpu", param_hint="--device") from None
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"
