"""The few requests to the swarm that a deployment needs, as plain HTTP.

A local engine is spoken to over its socket with the standard library, because a run that has nothing to do
must find that out in less time than the Docker SDK takes to import. Any other endpoint (ssh, TLS) goes
through the SDK's session. Services are read and written whole: the SDK's own `Service.update` resets what
is not passed.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from scripts.deployment.errors import EngineRefused, TargetUnreachable

if TYPE_CHECKING:
    import docker

API = "/v1.43"
"""The engine API of Docker 24, the oldest that is supported."""
DEFAULT_SOCKET = "unix:///var/run/docker.sock"
STACK_LABEL = "dev.slipway.stack"
NAMESPACE_LABEL = "com.docker.stack.namespace"

Json = dict[str, Any]


class Transport(Protocol):
    """Carry one request to an engine; raise OSError when it does not answer."""

    def send(
        self, method: str, path: str, body: bytes | None, timeout: float, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Return the HTTP status and the body of the answer; `timeout` in seconds."""
        ...


class SocketTransport:
    """An engine on this machine, over its Unix socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    def send(
        self, method: str, path: str, body: bytes | None, timeout: float, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Return the HTTP status and the body of the answer; `timeout` in seconds."""
        connection = http.client.HTTPConnection("docker", timeout=timeout)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(timeout)
        try:
            connection.sock.connect(self.path)
            connection.request(method, API + path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"the engine broke off its answer: {error!r}") from error
        finally:
            connection.close()


class SessionTransport:
    """An engine elsewhere, over the Docker SDK's session (ssh, TLS)."""

    def __init__(self, client: docker.DockerClient) -> None:
        self.client = client

    def send(
        self, method: str, path: str, body: bytes | None, timeout: float, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Return the HTTP status and the body of the answer; `timeout` in seconds."""
        api = self.client.api
        answer = api.request(
            method,
            f"{api.base_url}{API}{path}",
            data=body,
            timeout=timeout,
            headers=dict(headers),
        )
        return answer.status_code, answer.content


def transport(docker_host: str = "") -> Transport:
    """Return the way to the engine at `docker_host` (empty: DOCKER_HOST, else this machine's socket)."""
    address = docker_host or os.environ.get("DOCKER_HOST", "") or DEFAULT_SOCKET
    if address.startswith("unix://"):
        return SocketTransport(address.removeprefix("unix://"))
    from scripts.image.engine import connect

    return SessionTransport(connect(address))


class Swarm:
    """One swarm, through one of its managers."""

    def __init__(self, docker_host: str = "", *, through: Transport | None = None) -> None:
        self.docker_host = docker_host
        self._transport = through or transport(docker_host)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: object | None = None,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the decoded answer; raise `EngineRefused` or, for silence, `TargetUnreachable`."""
        return self._decode(self._send(method, path, query, body, timeout, headers))

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None,
        body: object | None,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        if query:
            words = {
                key: json.dumps(value) if isinstance(value, dict) else str(value)
                for key, value in query.items()
            }
            path = f"{path}?{urlencode(words)}"
        data = None if body is None else json.dumps(body).encode()
        told = {"Content-Type": "application/json", **(headers or {})}
        where = self.docker_host or "this machine's Docker engine"
        try:
            status, answer = self._transport.send(method, path, data, timeout, told)
        except OSError as error:
            raise TargetUnreachable(
                f"The target's engine does not answer: {error}.",
                where,
                "Start it, or set TARGET_DOCKER_HOST to the engine that is meant.",
            ) from error
        if status >= http.client.BAD_REQUEST:
            message = _message(answer)
            raise EngineRefused(
                f"The engine refused {method} {path.partition('?')[0]}: {message}",
                where,
                "See the reason above.",
                status=status,
            )
        return answer

    @staticmethod
    def _decode(answer: bytes) -> Any:
        return json.loads(answer) if answer.strip() else None

    def info(self) -> Json:
        """Return the engine's own description, among it its clock as `SystemTime`."""
        return dict(self.request("GET", "/info"))

    def initialise(self, address: str) -> None:
        """Make the engine a swarm of one node that advertises `address`."""
        self.request("POST", "/swarm/init", body={"ListenAddr": f"{address}:2377", "AdvertiseAddr": address})

    def nodes(self) -> list[Json]:
        """Return the swarm's nodes."""
        return list(self.request("GET", "/nodes"))

    # Services and their tasks

    def services(self, stack: str, *, status: bool = False) -> list[Json]:
        """Return the stack's services, by name; `status` adds the counts of running and desired tasks."""
        query = {"filters": {"label": [f"{NAMESPACE_LABEL}={stack}"]}, "status": str(status).lower()}
        return sorted(
            self.request("GET", "/services", query=query) or [], key=lambda service: service["Spec"]["Name"]
        )

    def service(self, name: str) -> Json | None:
        """Return the service of that name or id, or None."""
        try:
            return dict(self.request("GET", f"/services/{quote(name)}"))
        except EngineRefused as error:
            if error.status == http.client.NOT_FOUND:
                return None
            raise

    def jobs(self, stack: str) -> list[Json]:
        """Return the one-shot services that deployments of the stack made."""
        query = {"filters": {"label": [f"{STACK_LABEL}={stack}", "dev.slipway.kind=job"]}}
        return list(self.request("GET", "/services", query=query) or [])

    def create_service(self, spec: Json, credentials: str = "") -> str:
        """Create a service and return its id; `credentials` are the X-Registry-Auth to pull its image."""
        headers = {"X-Registry-Auth": credentials} if credentials else {}
        return str(self.request("POST", "/services/create", body=spec, headers=headers)["ID"])

    def update_service(self, service: Json, spec: Json) -> None:
        """Give a service a whole new specification; raise `EngineRefused` if it changed since it was read."""
        query = {"version": service["Version"]["Index"]}
        self.request("POST", f"/services/{service['ID']}/update", query=query, body=spec)

    def remove_service(self, name: str) -> None:
        """Remove a service; one that is gone already is fine."""
        self._remove(f"/services/{quote(name)}")

    def tasks(self, service: str) -> list[Json]:
        """Return the tasks of a service, newest first."""
        tasks = self.request("GET", "/tasks", query={"filters": {"service": [service]}}) or []
        return sorted(tasks, key=lambda task: str(task["CreatedAt"]), reverse=True)

    def task_logs(self, task: str, *, tail: int = 40) -> list[str]:
        """Return the last lines that a task wrote; none when the engine cannot tell."""
        return self._logs(f"/tasks/{quote(task)}/logs", tail)

    def service_logs(self, service: str, *, tail: int = 40) -> list[str]:
        """Return the last lines that a service's tasks wrote; none when the engine cannot tell."""
        return self._logs(f"/services/{quote(service)}/logs", tail)

    def _logs(self, path: str, tail: int) -> list[str]:
        query = {"stdout": 1, "stderr": 1, "tail": tail}
        try:
            data = self._send("GET", path, query, None, 10.0)
        except (EngineRefused, TargetUnreachable):
            return []
        return b"".join(demultiplex(data)).decode("utf-8", "replace").splitlines()

    def containers(self, stack: str) -> list[Json]:
        """Return the stack's running containers on this very engine."""
        query = {"filters": {"label": [f"{NAMESPACE_LABEL}={stack}"]}}
        return list(self.request("GET", "/containers/json", query=query) or [])

    def execute(self, container: str, argv: list[str]) -> bytes:
        """Return what a command wrote in a container of this very engine, both streams as they came."""
        body = {"Cmd": argv, "AttachStdout": True, "AttachStderr": True}
        identity = self.request("POST", f"/containers/{container}/exec", body=body)["Id"]
        data = self._send("POST", f"/exec/{identity}/start", None, {"Detach": False, "Tty": False}, 10.0)
        return b"".join(demultiplex(data))

    # Configs and secrets

    def configs(self, stack: str) -> list[Json]:
        """Return the configs that Slipway made for the stack."""
        return list(
            self.request("GET", "/configs", query={"filters": {"label": [f"{STACK_LABEL}={stack}"]}}) or []
        )

    def release_labels(self) -> list[Mapping[str, str]]:
        """Return the labels of every release that is recorded on the swarm, of whichever stack."""
        query = {"filters": {"label": ["dev.slipway.kind=release"]}}
        return [config["Spec"]["Labels"] for config in self.request("GET", "/configs", query=query) or []]

    def secrets(self, stack: str) -> list[Json]:
        """Return the secrets (never their data) that Slipway made for the stack."""
        return list(
            self.request("GET", "/secrets", query={"filters": {"label": [f"{STACK_LABEL}={stack}"]}}) or []
        )

    def config(self, name: str) -> Json | None:
        """Return the config of that name or id, or None."""
        try:
            return dict(self.request("GET", f"/configs/{quote(name)}"))
        except EngineRefused as error:
            if error.status == http.client.NOT_FOUND:
                return None
            raise

    def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> str | None:
        """Create a config and return its id, or None when the name is taken: creation by name is atomic."""
        return self._create("/configs/create", name, data, labels)

    def create_secret(self, name: str, data: bytes, labels: Mapping[str, str]) -> str | None:
        """Create a secret and return its id, or None when the name is taken."""
        return self._create("/secrets/create", name, data, labels)

    def _create(self, path: str, name: str, data: bytes, labels: Mapping[str, str]) -> str | None:
        body = {"Name": name, "Labels": dict(labels), "Data": base64.b64encode(data).decode()}
        try:
            return str(self.request("POST", path, body=body)["ID"])
        except EngineRefused as error:
            if error.status == http.client.CONFLICT:
                return None
            raise

    def label_config(self, config: Json, labels: Mapping[str, str]) -> None:
        """Replace a config's labels, all that may change; raise `EngineRefused` if it changed meanwhile."""
        body = {**config["Spec"], "Labels": dict(labels)}
        query = {"version": config["Version"]["Index"]}
        self.request("POST", f"/configs/{config['ID']}/update", query=query, body=body)

    def remove_config(self, name: str) -> bool:
        """Remove a config by name or id; return False when it is gone already or still in use."""
        return self._remove(f"/configs/{quote(name)}")

    def remove_secret(self, name: str) -> bool:
        """Remove a secret by name or id; return False when it is gone already or still in use."""
        return self._remove(f"/secrets/{quote(name)}")

    def _remove(self, path: str) -> bool:
        try:
            self.request("DELETE", path)
        except EngineRefused as error:
            if error.status in (http.client.NOT_FOUND, http.client.BAD_REQUEST, http.client.CONFLICT):
                return False
            raise
        return True

    # Images and networks

    def images(self, repository: str) -> list[Json]:
        """Return this engine's images of a repository."""
        return list(self.request("GET", "/images/json", query={"filters": {"reference": [repository]}}) or [])

    def has_image(self, reference: str) -> bool:
        """Tell whether this engine holds an image."""
        return self._image(reference) is not None

    def image_label(self, reference: str, label: str) -> str:
        """Return a label of an image that this engine holds; empty when either is missing."""
        found = self._image(reference) or {}
        return str(((found.get("Config") or {}).get("Labels") or {}).get(label, ""))

    def _image(self, reference: str) -> Json | None:
        try:
            return dict(self.request("GET", f"/images/{quote(reference, safe='')}/json"))
        except EngineRefused as error:
            if error.status == http.client.NOT_FOUND:
                return None
            raise

    def remove_image(self, reference: str) -> bool:
        """Remove an image; return False when it is gone already or still in use."""
        return self._remove(f"/images/{quote(reference, safe='')}")

    def ensure_network(self, name: str, stack: str) -> None:
        """Make the stack's overlay network before its services, for the jobs that run ahead of them."""
        known = self.request("GET", "/networks", query={"filters": {"name": [name]}}) or []
        if any(network["Name"] == name for network in known):
            return
        body = {
            "Name": name,
            "Driver": "overlay",
            "Attachable": True,
            "Labels": {NAMESPACE_LABEL: stack, STACK_LABEL: stack},
        }
        self.request("POST", "/networks/create", body=body)


def decoded(config: Json) -> bytes:
    """Return the data of a config."""
    return base64.b64decode(config["Spec"].get("Data", ""))


def demultiplex(data: bytes) -> Iterator[bytes]:
    """Yield the payloads of a log stream: frames of 1 byte stream, 3 bytes 0, 4 bytes length."""
    position = 0
    while position + 8 <= len(data):
        _stream, length = struct.unpack_from(">BxxxL", data, position)
        yield data[position + 8 : position + 8 + length]
        position += 8 + length


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return answer.decode("utf-8", "replace").strip()[:500] or "no reason given"


def socket_exists(docker_host: str = "") -> bool:
    """Tell without a request whether a local engine's socket is there."""
    address = docker_host or os.environ.get("DOCKER_HOST", "") or DEFAULT_SOCKET
    return not address.startswith("unix://") or Path(address.removeprefix("unix://")).exists()
