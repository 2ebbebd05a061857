"""As much of the hub as uploading and fetching a few files asks for, on this machine alone."""

import base64
import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class Hub:
    """Repositories in memory.

    Attributes:
        repositories: name -> file -> bytes.
        private: of each, as it was asked for.
        commits: revision -> (repository, files at it).
        asked: paths of all requests.
    """

    def __init__(self):
        self.repositories, self.private, self.commits, self.asked = {}, {}, {}, []
        self.endpoint = ""

    def committed(self, name):
        digest = hashlib.sha1(repr(sorted(self.repositories[name].items())).encode()).hexdigest()
        self.commits[digest] = dict(self.repositories[name])
        return digest


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Say nothing."""

    def _answer(self, value, status=200, headers=()):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for key, text in headers:
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self):
        self.hub.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            kind = {"uploadMode": "regular", "shouldIgnore": False}
            self._answer({"files": [{"path": file["path"], **kind} for file in files]})
        else:
            self._commit("/".join(self.path.split("/")[3:5]), body)

    def _create(self, said):
        name = f"{said['organization']}/{said['name']}"
        self.hub.repositories.setdefault(name, {})
        private = said.get("private") or said.get("visibility") == "private"
        self.hub.private.setdefault(name, private)
        self._answer({"url": f"{self.hub.endpoint}/{name}", "id": name})

    def _commit(self, name, body):
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.hub.repositories[name][line["value"]["path"]] = content
        digest = self.hub.committed(name)
        url = f"{self.hub.endpoint}/{name}/commit/{digest}"
        self._answer({"commitOid": digest, "commitUrl": url, "success": True})

    def do_GET(self):
        self.hub.asked.append(self.path)
        parts = self.path.partition("?")[0].split("/")
        if parts[1] == "api":
            self._about("/".join(parts[3:5]), tree="tree" in parts)
            return
        revision, file = parts[4], "/".join(parts[5:])
        data = self.hub.commits[revision][file]
        tag = hashlib.sha1(data).hexdigest()
        self._answer(data, headers=[("ETag", f'"{tag}"'), ("X-Repo-Commit", revision)])

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def _about(self, name, *, tree):
        if name not in self.hub.repositories:
            headers = [("X-Error-Code", "RepoNotFound")]
            self._answer({"error": "Repository not found"}, 404, headers)
            return
        files = sorted(self.hub.repositories[name].items())
        if tree:
            kind = {"type": "file", "oid": "0"}
            self._answer([kind | {"path": file, "size": len(data)} for file, data in files])
            return
        siblings = [{"rfilename": file} for file, _ in files]
        self._answer({"id": name, "sha": self.hub.committed(name), "siblings": siblings})


@contextmanager
def standing_in():
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
