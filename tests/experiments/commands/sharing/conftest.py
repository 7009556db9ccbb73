"""A hub of models on 127.0.0.1, in so far as `huggingface_hub` speaks to one, and commands against it."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from experiments.cli import app

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"


@dataclass
class Repository:
    """Files of each commit, by its name; private: readable with the token alone."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)  # names of files that were sent as large ones

    @property
    def head(self) -> str:
        return next(reversed(self.commits), "")


@dataclass
class Hub:
    """The state of the server. requests: method and path of each."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    address: str = ""
    storage: str = ""  # address of large files: another host, as with real hubs
    failing: int = 0  # status of every answer, if set


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def __init__(self, hub: Hub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        self.answer_file(body=True)

    def do_HEAD(self) -> None:
        self.answer_file(body=False)

    def do_PUT(self) -> None:
        content = self.content()
        oid = self.path.rpartition("/")[2]
        if hashlib.sha256(content).hexdigest() != oid:
            return self.send(400, {"error": "not the announced content"})
        self.hub.objects[oid] = content
        return self.send(200, {})

    def do_POST(self) -> None:
        content = self.content()
        if self.hub.failing:
            return self.send(
                self.hub.failing, {"error": f"out of order, said to {self.headers['authorization']}"}
            )
        if self.path == "/api/validate-yaml":
            front = json.loads(content)["content"].split("---")[1]
            wrong = [] if yaml.safe_load(front).get("license") else [{"message": "no license"}]
            return self.send(400 if wrong else 200, {"errors": wrong, "warnings": []})
        if self.headers["authorization"] != f"Bearer {TOKEN}":
            return self.send(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.hub.repositories:
                return self.send(409, {"error": "You already created this model repo", "url": name})
            private = asked.get("private") or asked.get("visibility") == "private"
            self.hub.repositories[name] = Repository(private=bool(private))
            return self.send(200, {"url": f"{self.hub.address}/{name}"})
        if kind := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path):
            return self.preupload(content) if kind[2] == "preupload" else self.commit(kind[1], content)
        if self.path.endswith("/info/lfs/objects/batch"):
            href = f"{self.hub.storage}/objects/"
            objects = [
                {**one, "actions": {"upload": {"href": href + one["oid"]}}}
                for one in json.loads(content)["objects"]
            ]
            return self.send(200, {"transfer": "basic", "objects": objects})
        return self.send(404, {"error": self.path})

    def preupload(self, content: bytes) -> None:
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(content)["files"]
        ]
        self.send(200, {"files": files})

    def commit(self, identity: str, content: bytes) -> None:
        repository = self.hub.repositories[identity]
        files = dict(repository.commits.get(repository.head, {}))
        for line in content.splitlines():
            part = json.loads(line)
            value = part["value"]
            if part["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif part["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
                repository.large.add(value["path"])
        name = hashlib.sha1(content + repository.head.encode()).hexdigest()
        repository.commits[name] = files
        self.send(200, {"commitUrl": f"{self.hub.address}/{identity}/commit/{name}", "commitOid": name})

    def answer_file(self, body: bool) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        if self.hub.failing:
            return self.send(self.hub.failing, {"error": "out of order"})
        if self.path.startswith("/objects/"):
            return self.send_bytes(self.hub.objects[self.path.rpartition("/")[2]], {}, body)
        asked = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^/]+)", self.path)
        repository = self.hub.repositories.get(asked[1]) if asked else None
        if repository is None or (repository.private and self.headers["authorization"] != f"Bearer {TOKEN}"):
            return self.send(401, {}, {"X-Error-Code": "RepoNotFound"})
        assert asked is not None
        commit = repository.head if asked[2] == "main" else asked[2]
        if commit not in repository.commits:
            return self.send(404, {}, {"X-Error-Code": "RevisionNotFound"})
        about = {"X-Repo-Commit": commit}
        if asked[3] not in repository.commits[commit]:
            return self.send(404, {}, {"X-Error-Code": "EntryNotFound", **about})
        content = repository.commits[commit][asked[3]]
        if asked[3] in repository.large:
            oid = hashlib.sha256(content).hexdigest()
            about |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
            return self.send(302, {}, {"Location": f"{self.hub.storage}/objects/{oid}", **about})
        return self.send_bytes(content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', **about}, body)

    def content(self) -> bytes:
        self.hub.requests.append(f"{self.command} {self.path}")
        if self.headers["transfer-encoding"] != "chunked":
            return self.rfile.read(int(self.headers["content-length"] or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self.send_bytes(json.dumps(value).encode(), headers or {}, self.command != "HEAD", status)

    def send_bytes(self, content: bytes, headers: dict[str, str], body: bool, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub on a port of its own, the one that `huggingface_hub` asks, with the token in HF_TOKEN."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    hub.storage = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    use_hub(monkeypatch, hub.address, tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, home: Path) -> None:
    """Let `huggingface_hub` use `address`, no token, and no folder of the user's: what HF_ENDPOINT, HF_HOME
    and HF_HUB_DISABLE_XET do when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)


Command = Callable[..., Result]


@pytest.fixture(scope="session")
def command() -> Command:
    """A command in this process, whose exit code is checked."""

    def invoke(*arguments: Any, code: int = 0) -> Result:
        done = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300"})
        assert done.exit_code == code, done.output
        return done

    return invoke
