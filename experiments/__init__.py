"""Everything of codecbench that runs, in rooms from top to bottom; a room imports those below it.

`cli` and `commands` are the command line. `search` chooses quantizers, `execution` does the runs of a study,
`planning` says what they will cost, `tracking` keeps them in MLflow, `evaluation` scores a codec, `training`
trains one, `studies` reads study files and makes runs of them, `metrics` scores audio, `data` prepares
corpora, and `common` has what all of these use. docs/architecture.md follows a run through them.
"""
