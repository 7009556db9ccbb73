"""Time of the figures, the tables, the report and the paper kit of a study, from its store alone.

    codecbench run gallery
    python -m benchmarks.analysis gallery
    python -m benchmarks.analysis gallery --quantizers none vq fsq q2d2-hex

Prints seconds of each part, by the clock and of this process's computing (others draw beside it), and the
number of runs. Nothing is kept.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    """Time each part once; imports and downloads are paid by the first that needs them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--tracking-uri")
    parser.add_argument("--formats", default="pdf,svg,png", help="of the figures")
    parser.add_argument("--quantizers", nargs="*", help="only runs of these")
    given = parser.parse_args()
    seconds: dict[str, tuple[float, float]] = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        started, computed = time.perf_counter(), time.process_time()
        work()
        clock, computing = time.perf_counter() - started, time.process_time() - computed
        seconds[name] = clock, computing
        print(f"{name:32} {clock:6.1f} s {computing:8.1f} s", flush=True)

    print(f"{'':32} {'clock':>8} {'computing':>10}")
    started, computed = time.perf_counter(), time.process_time()
    from analysis import load
    from analysis.figures import writing as drawing

    drawing.prepare()
    from analysis.reports.paper import write_paper
    from analysis.reports.report import write_report
    from analysis.tables.comparison import comparison
    from analysis.tables.formats import render

    results = load(given.study, given.tracking_uri)
    if given.quantizers:
        wanted = results.runs[results.runs["quantizer"].isin(given.quantizers)]
        results = load(given.study, given.tracking_uri, run_hashes=list(wanted["run_hash"]))
    seconds["load"] = time.perf_counter() - started, time.process_time() - computed
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        kinds = given.formats.split(",")
        processes = drawing.cores()
        timed("figures", lambda: drawing.write_all(results, folder, formats=kinds, processes=processes))
        timed(
            "tables",
            lambda: [
                render(table, kind)
                for table in [comparison(results)]
                for kind in ("markdown", "latex", "csv", "html")
            ],
        )
        timed("report", lambda: write_report(results, folder / "report", processes=processes))
        timed("paper", lambda: write_paper(results, folder / "paper", processes=processes))
        written = [path for path in folder.rglob("*") if path.is_file()]
    clock, computing = (sum(column) for column in zip(*seconds.values(), strict=True))
    print(f"{'all':32} {clock:6.1f} s {computing:8.1f} s")
    print(f"{len(results.runs)} runs, {len(written)} files")


if __name__ == "__main__":
    main()
