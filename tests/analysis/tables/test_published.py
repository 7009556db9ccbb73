"""Published numbers: what the files hold, and that they never stand among measured rows."""

import pytest

from analysis.tables import published as published_tables


@pytest.mark.parametrize("name", published_tables.available())
def test_every_cell_has_a_source_and_a_mark_that_is_explained(name: str) -> None:
    table = published_tables.load(name)
    assert {"title", "source", "confidence"} <= set(table.about)
    assert not table.cells[["system", "metric", "value", "confidence"]].isna().any(axis=None)
    explained = {part.split("=")[0].strip() for part in table.about["confidence"].split(";")}
    assert set(table.cells["confidence"]) <= explained
    assert not any("recalled" in line for line in table.about.values())  # no numbers from memory
    keys = ["system", "bitrate_kbps", "streams", "token_rate", "metric"]
    assert not table.cells.duplicated(keys).any()
    stoi = table.cells[table.cells["metric"] == "stoi"]["value"]
    assert stoi.between(0.7, 1).all()


def test_a_table_keeps_its_rows_values_and_marks() -> None:
    table = published_tables.load("wavtokenizer-libritts-test-clean")
    wide = table.wide()
    assert len(wide) == 13
    row = wide[(wide["system"] == "WavTokenizer") & (wide["tokens/s"] == "75")].iloc[0]
    assert (row["kbit/s"], row["PESQ"], row["UTMOS"]) == ("0.9", "2.373 V", "4.0486 V")
    text = published_tables.markdown(table)
    assert published_tables.WARNING in text
    assert "V = confirmed by a second published table" in text


def test_a_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(published_tables.PublishedError, match="did you mean 'wavtokenizer-libritts"):
        published_tables.load("wavtokenizer-libritts-test-othr")


def test_it_is_rendered_for_documents_but_never_as_data() -> None:
    table = published_tables.load("wavtokenizer-libritts-test-clean")
    for kind in ("markdown", "latex", "html"):
        text = published_tables.render(table, kind)
        assert published_tables.WARNING in text
        assert "2.373 V" in text
    assert "\\toprule" in published_tables.render(table, "latex")
    with pytest.raises(published_tables.PublishedError, match="never mixed into csv"):
        published_tables.render(table, "csv")
