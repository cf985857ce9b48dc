"""A server on 127.0.0.1 that speaks as much of W&B's protocol as wandb 0.31 needs, and keeps what arrives.

GraphQL for runs, files and artifacts, the file stream for rows, and plain uploads. With a fault it hangs (accepts and
never answers) or answers every request with one status.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

import yaml

from tests.loopback import serving

KEY = "0123456789" * 4
ENTITY = "somebody"


@dataclass
class Run:
    """What arrived of one run."""

    name: str
    project: str = ""
    display_name: str = ""
    group: str = ""
    job_type: str = ""
    tags: list[str] = field(default_factory=list)
    sweep: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)  # by line of the stream
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    finished: bool = False
    exit_code: int | None = None

    def rows(self, key: str) -> list[dict[str, Any]]:
        """History rows that hold a key, in order."""
        return [row for _, row in sorted(self.history.items()) if key in row]

    def values(self, key: str) -> list[Any]:
        """A key's values over the history."""
        return [row[key] for row in self.rows(key)]


@dataclass
class Artifact:
    """What arrived of one artifact: the files by their path in it, the bytes by their digest."""

    id: str
    name: str
    type: str
    run: str
    aliases: list[str]
    metadata: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False

    def content(self, path: str) -> bytes:
        """Bytes of a file in the artifact."""
        return self.blobs[base64.b64decode(self.manifest["contents"][path]["digest"]).hex()]


@dataclass
class Site:
    """fault: "" (all is well), "hang", or a status such as "401". requests: what was asked for, in order."""

    fault: str = ""
    address: str = ""
    runs: dict[str, Run] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    views: list[dict[str, Any]] = field(default_factory=list)
    sweeps: list[dict[str, Any]] = field(default_factory=list)
    handed_out: dict[str, dict[str, Any]] = field(default_factory=dict)  # parameters that agents were given, by run
    requests: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def of_type(self, kind: str) -> list[Artifact]:
        """Committed artifacts of a type."""
        return [artifact for artifact in self.artifacts.values() if artifact.type == kind and artifact.committed]


@contextmanager
def serve(fault: str = "") -> Iterator[Site]:
    """Run a server for the length of the block."""
    site = Site(fault)

    class Handler(_Handler):
        pass

    Handler.site = site
    with serving(Handler, site.stop) as site.address:
        yield site


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        site = self.site
        with site.lock:
            site.requests.append(f"{self.command} {self.path}")
        if site.fault == "hang":
            site.stop.wait()
            self.close_connection = True
            return
        if site.fault:
            self._send(int(site.fault), b'{"errors": [{"message": "refused by the test"}]}')
            return
        with site.lock:
            status, answer = self._route(unquote(self.path), body)
        self._send(status, answer)

    do_GET = do_POST = do_PUT = _any

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass

    def _route(self, path: str, body: bytes) -> tuple[int, bytes]:
        words = path.strip("/").split("/")
        if words[0] == "graphql":
            asked = json.loads(body)
            return 200, json.dumps({"data": _answer(self.site, asked)}).encode()
        if words[-1] == "file_stream":
            _stream(self.site.runs.setdefault(words[-2], Run(words[-2])), json.loads(body))
            return 200, b"{}"
        if words[0] == "upload":
            run = self.site.runs.setdefault(words[1], Run(words[1]))
            run.files["/".join(words[2:])] = body
            return 200, b""
        if words[0] == "blob":
            self.site.artifacts[words[1]].blobs[words[2]] = body
            return 200, b""
        if words[0] == "manifest":
            self.site.artifacts[words[1]].manifest = json.loads(body)
            return 200, b""
        return 200, b"{}"


def _stream(run: Run, posted: dict[str, Any]) -> None:
    for name, part in (posted.get("files") or {}).items():
        lines = [json.loads(line) for line in part["content"] if line.strip()]
        if name == "wandb-history.jsonl":
            run.history |= dict(enumerate(lines, part["offset"]))
        elif name == "wandb-summary.json" and lines:
            run.summary = lines[-1]
    if posted.get("complete"):
        run.finished, run.exit_code = True, posted.get("exitcode")


def _answer(site: Site, asked: dict[str, Any]) -> dict[str, Any]:
    found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
    given = asked.get("variables") or {}
    given = given.get("input") or given
    known = _ANSWERS.get(found[1] if found else "")
    if known is None:
        site.unknown.append(json.dumps(asked))
        return {}
    return known(site, given)


def _viewer(_: Site, __: dict[str, Any]) -> dict[str, Any]:
    teams = {"edges": [{"node": {"name": ENTITY}}]}
    return {"viewer": {"id": "VXNlcjox", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}",
                       "teams": teams}}  # fmt: skip


def _upsert(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    inserted = given["name"] not in site.runs
    run = site.runs.setdefault(given["name"], Run(given["name"]))
    for theirs, ours in (("project", "project"), ("displayName", "display_name"), ("groupName", "group"),
                         ("jobType", "job_type"), ("tags", "tags"), ("sweep", "sweep")):  # fmt: skip
        if given.get(theirs):
            setattr(run, ours, given[theirs])
    if given.get("config"):
        run.config = {key: item["value"] for key, item in json.loads(given["config"]).items()}
    return {"upsertBucket": {"inserted": inserted, "bucket": _bucket(run)}}


def _bucket(run: Run) -> dict[str, Any]:
    project = {"id": "UHJvamVjdDox", "name": run.project, "entity": {"id": "RW50aXR5OjE=", "name": ENTITY}}
    config = json.dumps({key: {"value": value} for key, value in run.config.items()})
    return {"id": base64.b64encode(run.name.encode()).decode(), "name": run.name, "displayName": run.display_name,
            "description": None, "config": config, "sweepName": None, "project": project,
            "historyLineCount": len(run.history)}  # fmt: skip


def _resume_status(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    run = site.runs.get(given["name"])
    if run is None:
        return {"model": {"id": "UHJvamVjdDox", "name": given.get("project"), "entity": {"id": "", "name": ENTITY},
                          "bucket": None}}  # fmt: skip
    last = [run.history[max(run.history)]] if run.history else []
    bucket = _bucket(run) | {
        "summaryMetrics": json.dumps(run.summary), "logLineCount": 0, "eventsLineCount": 0,
        "historyTail": json.dumps([json.dumps(row) for row in last]), "eventsTail": "[]", "tags": run.tags,
        "wandbConfig": json.dumps({"t": 1}),
    }  # fmt: skip
    return {"model": {"id": "UHJvamVjdDox", "name": run.project, "entity": {"id": "", "name": ENTITY},
                      "bucket": bucket}}  # fmt: skip


def _run_files(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    files = [{"name": name, "uploadUrl": f"{site.address}/upload/{given['run']}/{name}"} for name in given["files"]]
    return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}


def _create_artifact(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    number = f"artifact{len(site.artifacts)}"
    name = (given.get("artifactCollectionNames") or [given.get("artifactCollectionName")])[0]
    aliases = [item["alias"] for item in given.get("aliases") or []]
    kind = given.get("artifactTypeName") or ""
    metadata = json.loads(given.get("metadata") or "{}")
    site.artifacts[number] = Artifact(number, name, kind, given.get("runName") or "", aliases, metadata)
    collection = {"id": "c1", "latestArtifact": None}
    return {"createArtifact": {"artifact": {"id": number, "state": "PENDING", "artifactSequence": collection}}}


def _create_manifest(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    number = given["artifactID"]
    file = {"id": "f1", "name": given.get("name"), "displayName": given.get("name"), "uploadUrl":
            f"{site.address}/manifest/{number}", "uploadHeaders": []}  # fmt: skip
    return {"createArtifactManifest": {"artifactManifest": {"id": f"m-{number}", "file": file}}}


def _artifact_files(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    edges = []
    for spec in given["artifactFiles"]:
        number = spec["artifactID"]
        url = f"{site.address}/blob/{number}/{base64.b64decode(spec['md5']).hex()}"
        node = {"id": "f1", "name": spec["name"], "displayName": spec["name"], "uploadUrl": url, "uploadHeaders": [],
                "storagePath": spec["name"], "uploadMultipartUrls": None,
                "artifact": {"id": number}}  # fmt: skip
        edges.append({"node": node})
    return {"createArtifactFiles": {"files": {"edges": edges}}}


def _commit(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    site.artifacts[given["artifactID"]].committed = True
    return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}


def _view(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    site.views.append(given | {"spec": json.loads(given["spec"])})
    return {"upsertView": {"view": {"id": "v1", "name": given["name"]}, "inserted": True}}


def _report(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    spec = json.loads(given["spec"])
    site.views.append(given | {"spec": spec})
    project = {"id": "UHJvamVjdDox", "name": given["projectName"], "entityName": given["entityName"]}
    told = {key: given[key] for key in ("name", "displayName", "description", "type", "spec")}
    return {"upsertView": {"view": {"id": "Vmlldzox", "project": project, **told}, "inserted": True}}


def _projects(_: Site, given: dict[str, Any]) -> dict[str, Any]:
    node = {"__typename": "Project", "id": "UHJvamVjdDox", "name": "unet-2015", "entityName": given.get("entity"),
            "createdAt": "2026-01-01T00:00:00", "isBenchmark": False, "user": None}  # fmt: skip
    page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {"models": {"pageInfo": page, "edges": [{"node": node}]}}


def _sweep(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    site.sweeps.append(given)
    project = {"name": given["projectName"], "entity": {"name": ENTITY}}
    return {"upsertSweep": {"sweep": {"name": "sweep1", "project": project}, "configValidationWarnings": []}}


def _grid(site: Site) -> list[dict[str, Any]]:
    """The parameters of every run of the last sweep, as an agent is given them."""
    told = yaml.safe_load(site.sweeps[-1]["config"])["parameters"]
    choices = [given["values"] if "values" in given else [given["value"]] for given in told.values()]
    return [{k: {"value": v} for k, v in zip(told, values, strict=True)} for values in itertools.product(*choices)]


def _sweep_with_runs(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    sweep = {"id": "U3dlZXA6MQ==", "name": given["sweep"], "method": "grid", "state": "RUNNING", "description": None,
             "config": site.sweeps[-1]["config"], "createdAt": "", "heartbeatAt": None, "updatedAt": None,
             "earlyStopJobRunning": False, "bestLoss": None, "controller": None, "scheduler": None,
             "runs": {"edges": []}}  # fmt: skip
    return {"project": {"sweep": sweep}}


def _heartbeat(site: Site, given: dict[str, Any]) -> dict[str, Any]:
    """A run of the grid after the other, then the end."""
    commands, left = [], _grid(site)[len(site.handed_out) :]
    if not json.loads(given["runState"]):
        number = f"run{len(site.handed_out)}"
        commands = [{"type": "run", "run_id": number, "program": "", "args": left[0]} if left else {"type": "exit"}]
        if left:
            site.handed_out[number] = left[0]
    return {"agentHeartbeat": {"agent": {"id": given["id"]}, "commands": json.dumps(commands)}}


_ANSWERS = {
    "Viewer": _viewer,
    "GetDefaultEntity": _viewer,
    "UpsertBucket": _upsert,
    "RunResumeStatus": _resume_status,
    "CreateRunFiles": _run_files,
    "CreateArtifact": _create_artifact,
    "CreateArtifactManifest": _create_manifest,
    "CreateArtifactFiles": _artifact_files,
    "CommitArtifact": _commit,
    "UpsertView2": _view,
    "upsertView": _report,
    "GetProjects": _projects,
    "UpsertSweep": _sweep,
    "SweepWithRuns": _sweep_with_runs,
    "CreateAgent": lambda *_: {"createAgent": {"agent": {"id": "agent1"}}},
    "Heartbeat": _heartbeat,
    "ServerFeaturesQuery": lambda *_: {"serverInfo": {"features": []}},
    "OrganizationCoreWeaveOrganizationID": lambda *_: {"entity": {"organization": None}},
    "ArtifactType": lambda *_: {"project": {"artifact": None}},
}
