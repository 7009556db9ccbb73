"""Put the tables of the keys of study files into the pages between their comments.

    python docs/make_keys.py            # --check: say only whether they are up to date

A table stands between `<!-- keys of SECTION -->` and `<!-- keys end -->`, and is written from the models that
check study files: a key's default, bounds and description are those of its field.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGES = ("studies.md", "training.md", "search.md")
_PART = re.compile(r"(<!-- keys of ([a-z. ]+) -->\n).*?(<!-- keys end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The text of a page with every table as the models say."""
    from experiments.studies import sections
    from experiments.studies.described import key_table
    from experiments.studies.study import Study

    models = {
        "a study": Study,
        "a quantizer": sections.QuantizerChoice,
        "train": sections.Train,
        "evaluate": sections.Evaluate,
        "search": sections.Search,
        "search.space": sections.SearchSpace,
        "search.families": sections.Family,
        "search.pruner": sections.Pruner,
    }
    return _PART.sub(lambda part: part[1] + "\n" + key_table(models[part[2]]) + "\n" + part[3], page)


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for name in PAGES:
        path = HERE / name
        old = path.read_text(encoding="utf-8")
        new = with_tables(old)
        if check and new != old:
            sys.exit(f"docs/{name} is out of date; run: python docs/make_keys.py")
        path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
