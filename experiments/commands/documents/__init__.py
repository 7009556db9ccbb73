"""JSON documents of commands (`--format json`): their models, and the schemas that are made from them.

Every document has `"schema": "codecbench.COMMAND/VERSION"`. A version gets no other keys and loses none; a
change of them raises the number. `docs/json.md` describes them.
"""
