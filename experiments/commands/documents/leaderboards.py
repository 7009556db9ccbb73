"""The document of a leaderboard."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from experiments.commands.documents.document import Document, Part, Real

if TYPE_CHECKING:
    import pandas as pd

    from analysis.tables.leaderboard import Board, Leaderboard, Level, Standing
    from analysis.tables.published import Published


class Score(Part):
    """The score of a row by one metric."""

    value: Real = Field(description="mean of seeds and utterances")
    low: Real = Field(description="lower end of the 95 % interval")
    high: Real = Field(description="upper end of the 95 % interval")
    mark: str = Field(
        description="`best`; `worse`: significantly worse than the best; `tied`: no significant difference "
        "to it; or empty"
    )


class LeaderboardRow(Part):
    """A row: seeds of one label are averaged."""

    label: str
    studies: list[str] = Field(description="studies that have these very runs")
    quantizer: str
    start: str = Field(description="how the quantizer started, as `train.start`; empty for a reference codec")
    bitrate: Real = Field(description="nominal bit/s; null where no bits are spent")
    seeds: int
    scores: dict[str, Score] = Field(description="by metric")


class LeaderboardLevel(Part):
    """Rows of one bitrate, within 2 %."""

    bitrate: Real = Field(description="mean, bit/s; null where no bits are spent")
    comparable: bool = Field(description="whether its rows may be compared with each other")
    rows: list[LeaderboardRow]


class LeaderboardBoard(Part):
    """Rows of one corpus, protocol, backbone and budget of training."""

    corpus: str
    corpus_hash: str
    synthetic: bool = Field(description="whether the corpus is synthetic speech")
    protocol: str = Field(description="version of the evaluation protocol")
    backbone: str = Field(description="with its sizes; empty for reference codecs")
    training: str = Field(description="budget in words; empty for reference codecs")
    levels: list[LeaderboardLevel]


class PublishedScore(Part):
    """A number of a paper."""

    system: str
    bitrate: Real = Field(description="bit/s; null where it is not stated")
    token_rate: Real = Field(description="tokens a second; null where it is not stated")
    metric: str
    value: Real
    confidence: str = Field(description="a letter that `about` explains")


class PublishedTable(Part):
    """Rows of a paper's table. They were not measured here: never rank across."""

    name: str
    about: dict[str, str] = Field(description="`title`, `source`, `note`, `confidence`, where there are any")
    scores: list[PublishedScore]


class LeaderboardBand(Part):
    """A band of bitrates."""

    title: str
    low: Real = Field(description="kbit/s; null for the band without bitrates")
    high: Real = Field(description="kbit/s, exclusive; null where there is no end")
    boards: list[LeaderboardBoard]
    published: list[PublishedTable]


class LeaderboardDocument(Document):
    """`codecbench leaderboard STUDY...`: rows of several studies in bands of bitrate."""

    schema_: Literal["codecbench.leaderboard/1"] = Field(default="codecbench.leaderboard/1", alias="schema")
    studies: list[str]
    bands: list[LeaderboardBand]
    left_out: int = Field(description="published numbers that nobody could check, which are left out")


def leaderboard_document(board: "Leaderboard") -> LeaderboardDocument:
    """The document of a leaderboard."""
    papers = {paper.name: paper for paper in board.papers}
    bands = [
        LeaderboardBand(
            title=band.title,
            low=band.low,
            high=band.high,
            boards=[_board(one) for one in band.boards],
            published=[_published(papers[name], cells) for name, cells in band.published.items()],
        )
        for band in board.bands
    ]
    return LeaderboardDocument(studies=[*board.studies], bands=bands, left_out=board.left_out)


def _board(board: "Board") -> LeaderboardBoard:
    return LeaderboardBoard(
        corpus=board.corpus,
        corpus_hash=board.corpus_hash,
        synthetic=board.synthetic,
        protocol=board.protocol,
        backbone=board.backbone,
        training=board.training,
        levels=[_level(level) for level in board.levels],
    )


def _level(level: "Level") -> LeaderboardLevel:
    rows = [_row(row) for row in level.rows]
    return LeaderboardLevel(bitrate=level.bitrate, comparable=level.comparable, rows=rows)


def _row(row: "Standing") -> LeaderboardRow:
    scores = {
        metric: Score(value=cell.value, low=cell.low, high=cell.high, mark=cell.mark)
        for metric, cell in row.cells.items()
    }
    return LeaderboardRow(
        label=row.label,
        studies=[*row.studies],
        quantizer=row.quantizer,
        start=row.start,
        bitrate=row.bitrate,
        seeds=row.seeds,
        scores=scores,
    )


def _published(paper: "Published", cells: "pd.DataFrame") -> PublishedTable:
    scores = [
        PublishedScore(
            system=str(cell["system"]),
            bitrate=cell["bitrate_kbps"] * 1000,
            token_rate=cell["token_rate"],
            metric=str(cell["metric"]),
            value=cell["value"],
            confidence=str(cell["confidence"]),
        )
        for cell in cells.to_dict("records")
    ]
    return PublishedTable(name=paper.name, about=dict(paper.about), scores=scores)
