"""Push image archives to a registry over its HTTP protocol, uploading only what it lacks.

The protocol is the OCI distribution specification's (docker-registry 2.x and later). Blobs are sent before
the manifest that names them, so an interrupted push leaves nothing half-visible and the next one goes on.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from scripts.image import oci
from scripts.pipeline.errors import StageFailure, UnreachableError

if TYPE_CHECKING:
    from pathlib import Path

    import requests

ACCEPTED = (
    f"{oci.MANIFEST}, application/vnd.oci.image.index.v1+json,"
    " application/vnd.docker.distribution.manifest.v2+json,"
    " application/vnd.docker.distribution.manifest.list.v2+json"
)
ATTEMPTS = 4
PAUSE = 0.3
CHUNK = 256 * 1024
LOOPBACK = ("localhost", "127.", "[::1]")

Progress = Callable[[int, int], None]
Check = Callable[[], None]


class RegistryUnreachable(UnreachableError):
    """The registry does not answer."""


class RegistryRefused(StageFailure):
    """The registry answers, but not with what was asked for."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a push did, in bytes."""

    digest: str
    uploaded_bytes: int
    skipped_bytes: int


class Registry:
    """One registry, by host and port.

    `insecure` (plain HTTP) is the default for loopback addresses only, as it is for Docker. `timeout` bounds
    connecting and each silence, in seconds. `check` is called between chunks and may raise to stop a push.
    """

    def __init__(
        self,
        host: str,
        *,
        insecure: bool | None = None,
        username: str = "",
        password: str = "",
        timeout: float = 30.0,
        check: Check = lambda: None,
    ) -> None:
        self.host = host
        plain = is_loopback(host) if insecure is None else insecure
        self._base = f"{'http' if plain else 'https'}://{host}"
        self._credentials = (username, password) if username else None
        self._timeout = (min(timeout, 5.0), timeout)
        self._check = check
        self._tokens: dict[str, str] = {}
        self._open: requests.Session | None = None

    def __repr__(self) -> str:
        return f"Registry({self.host!r})"

    def answers(self) -> bool:
        """Tell whether a registry speaks this protocol at the address."""
        import requests

        try:
            reply = self._session().get(f"{self._base}/v2/", timeout=self._timeout)
        except requests.RequestException:
            return False
        return reply.status_code in (200, 401) and (
            "Docker-Distribution-Api-Version" in reply.headers or "WWW-Authenticate" in reply.headers
        )

    def has(self, name: str, digest: str) -> bool:
        """Tell whether the registry holds an image; raises RegistryUnreachable or RegistryRefused."""
        reply = self._ask("HEAD", f"/v2/{name}/manifests/{digest}", name, headers={"Accept": ACCEPTED})
        if reply.status_code == 404:
            return False
        if not reply.ok:
            self._refuse(reply, f"cannot look for {name}")
        return True

    def digest(self, name: str, tag: str) -> str | None:
        """Return the digest that a tag leads to, or None when there is no such tag."""
        return oci.digest(self.raw_manifest(name, tag)) if self.has(name, tag) else None

    def manifest(self, name: str, reference: str) -> dict[str, Any]:
        """Return an image's manifest by digest or tag; raises RegistryRefused when it is not there."""
        found: dict[str, Any] = json.loads(self.raw_manifest(name, reference))
        return found

    def raw_manifest(self, name: str, reference: str) -> bytes:
        """Return a manifest, byte for byte; raises RegistryRefused when it is not there or another one."""
        reply = self._ask("GET", f"/v2/{name}/manifests/{reference}", name, headers={"Accept": ACCEPTED})
        if not reply.ok:
            self._refuse(reply, f"does not give {name}@{reference}")
        if reference.startswith("sha256:"):
            self._prove(reply.content, reference, name)
        return reply.content

    def labels(self, name: str, reference: str) -> dict[str, str]:
        """Return the labels of an image; raises RegistryRefused when it is not there."""
        configuration = json.loads(self.blob(name, self.manifest(name, reference)["config"]["digest"]))
        return dict((configuration.get("config") or {}).get("Labels") or {})

    def blob(self, name: str, digest: str) -> bytes:
        """Return one small blob whole; raises RegistryRefused when it is not there or another one."""
        reply = self._ask("GET", f"/v2/{name}/blobs/{digest}", name)
        if not reply.ok:
            self._refuse(reply, f"does not give {digest} of {name}")
        self._prove(reply.content, digest, name)
        return reply.content

    def put_blob(self, name: str, media_type: str, content: bytes) -> oci.Blob:
        """Upload one small blob unless the registry has it, and describe it."""
        blob = oci.Blob(digest=oci.digest(content), size=len(content), media_type=media_type)
        if not self._holds(name, blob):
            self._upload(name, blob, lambda: io.BytesIO(content), lambda _sent: None)
        return blob

    def put_manifest(self, name: str, content: bytes, reference: str, media_type: str = oci.MANIFEST) -> None:
        """Put a manifest under a digest or a tag; the registry must give it the digest that it has."""
        reply = self._ask(
            "PUT",
            f"/v2/{name}/manifests/{reference}",
            name,
            write=True,
            data=content,
            headers={"Content-Type": media_type},
        )
        if reply.status_code != 201:
            self._refuse(reply, f"does not accept the manifest of {name}")
        expected = oci.digest(content)
        given = reply.headers.get("Docker-Content-Digest", expected)
        if given != expected:
            raise RegistryRefused(
                f"The registry gave the image another digest: {given}",
                f"{self.host}/{name}@{expected}",
                "do not deploy it; look for a proxy in between that rewrites what passes",
            )

    def pull_archive(
        self, name: str, digest: str, path: Path, progress: Progress = lambda _done, _all: None
    ) -> None:
        """Write an image as an archive, whole or not at all, each blob proven against its digest.

        Raises RegistryUnreachable, RegistryRefused (also for a blob that is not what its digest says) or
        OSError.
        """
        import urllib3

        raw = self.raw_manifest(name, digest)
        content = json.loads(raw)
        described = {blob["digest"]: int(blob["size"]) for blob in (content["config"], *content["layers"])}
        everything, done = sum(described.values()), 0
        with oci.written(path, digest, raw, content["mediaType"]) as add:
            for one, size in described.items():
                reply = self._ask("GET", f"/v2/{name}/blobs/{one}", name, stream=True)
                if not reply.ok:
                    self._refuse(reply, f"does not give {one} of {name}")
                shown = functools.partial(_shifted, progress, done, everything)
                arriving = _Arriving(reply, self._check, shown)
                try:
                    add(one, size, arriving)
                except urllib3.exceptions.HTTPError as error:
                    self._gone(error)
                if arriving.digest() != one:
                    raise self._another(one, name)
                done += size

    def push_archive(
        self, archive: Path, name: str, progress: Progress = lambda _done, _all: None, *, tag: str = ""
    ) -> Pushed:
        """Push an image archive as `name`, by digest, and prove that the registry gives it the same digest.

        `progress` gets the bytes done and the bytes in all. Raises RegistryUnreachable when the registry is
        gone for longer than a few retries, RegistryRefused, or oci.ArchiveCorrupt.
        """
        with oci.opened(archive) as opened:
            image = opened.image()
            blobs = list(dict.fromkeys((image.configuration, *image.layers)))
            everything = sum(blob.size for blob in blobs)
            uploaded = skipped = 0
            for blob in blobs:
                self._check()
                if self._holds(name, blob):
                    skipped += blob.size
                else:
                    done = functools.partial(_shifted, progress, uploaded + skipped, everything)
                    self._upload(name, blob, functools.partial(opened.open_blob, blob.digest), done)
                    uploaded += blob.size
                progress(uploaded + skipped, everything)
            manifest = opened.checked(image.manifest.digest)
            for reference in (image.manifest.digest, *([tag] if tag else [])):
                self.put_manifest(name, manifest, reference, image.manifest.media_type)
        return Pushed(digest=image.manifest.digest, uploaded_bytes=uploaded, skipped_bytes=skipped)

    def _holds(self, name: str, blob: oci.Blob) -> bool:
        reply = self._ask("HEAD", f"/v2/{name}/blobs/{blob.digest}", name)
        if reply.status_code not in (200, 404):
            self._refuse(reply, f"cannot look for a layer of {name}")
        return reply.status_code == 200

    def _upload(
        self,
        name: str,
        blob: oci.Blob,
        opening: Callable[[], IO[bytes]],
        progress: Callable[[int], None],
    ) -> None:
        """Send one blob; a connection that breaks is tried again from the blob's beginning."""
        import requests

        last: Exception | None = None
        for attempt in range(ATTEMPTS):
            self._wait(attempt)
            try:
                start = self._send("POST", f"{self._base}/v2/{name}/blobs/uploads/", name, write=True)
                if start.status_code != 202:
                    self._refuse(start, f"does not accept an upload to {name}")
                with opening() as content:
                    reply = self._send(
                        "PUT",
                        _with_digest(urljoin(start.url, start.headers["Location"]), blob.digest),
                        name,
                        write=True,
                        data=_Chunks(content, blob.size, self._check, progress),
                        headers={"Content-Type": "application/octet-stream"},
                    )
            except (requests.ConnectionError, requests.Timeout) as error:
                last = error
                continue
            if reply.status_code < 500:
                break
            last = None
        else:
            self._gone(last)
        if reply.status_code != 201:
            self._refuse(reply, f"does not accept layer {blob.digest} of {name}")

    def _ask(self, method: str, path: str, name: str, **options: Any) -> requests.Response:
        """Make a request, again while the connection breaks or it answers 5xx; it must be safe to repeat."""
        import requests

        last: Exception | None = None
        reply: requests.Response | None = None
        for attempt in range(ATTEMPTS):
            self._wait(attempt)
            try:
                reply = self._send(method, f"{self._base}{path}", name, **options)
            except (requests.ConnectionError, requests.Timeout) as error:
                last = error
                continue
            except requests.RequestException as error:
                self._gone(error)
            if reply.status_code < 500:
                return reply
        if reply is None:
            self._gone(last)
        return reply

    def _wait(self, attempt: int) -> None:
        """Pause before another attempt, twice as long each time; not before the first."""
        until = time.monotonic() + (PAUSE * 2 ** (attempt - 1) if attempt else 0)
        while (left := until - time.monotonic()) > 0:
            self._check()
            time.sleep(min(left, 0.1))
        self._check()

    def _send(
        self, method: str, address: str, name: str, *, write: bool = False, **options: Any
    ) -> requests.Response:
        """Make one request, answering a demand for credentials once."""
        scope = f"repository:{name}:{'pull,push' if write else 'pull'}"
        headers = {"Accept": "*/*", **options.pop("headers", {})}
        for _ in range(2):
            authorization = self._tokens.get(scope)
            if authorization:
                headers["Authorization"] = authorization
            reply = self._session().request(
                method,
                address,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=method != "PUT",
                **options,
            )
            if reply.status_code != 401 or authorization or not self._authorise(reply, scope):
                break
            data = options.get("data")
            if isinstance(data, _Chunks):
                data.rewind()
        return reply

    def _authorise(self, reply: requests.Response, scope: str) -> bool:
        """Get what a 401 asks for: a bearer token for the scope, or basic credentials."""
        import base64

        from requests.utils import parse_dict_header

        kind, _, rest = reply.headers.get("WWW-Authenticate", "").partition(" ")
        if kind.lower() == "basic" and self._credentials:
            pair = base64.b64encode(":".join(self._credentials).encode()).decode()
            self._tokens[scope] = f"Basic {pair}"
            return True
        if kind.lower() != "bearer":
            return False
        challenge = parse_dict_header(rest)  # type: ignore[no-untyped-call]
        answer = self._session().get(
            challenge.get("realm", ""),
            params={"service": challenge.get("service", ""), "scope": challenge.get("scope", scope)},
            auth=self._credentials,
            timeout=self._timeout,
        )
        if not answer.ok:
            self._refuse(answer, "does not accept the credentials")
        token = answer.json()
        self._tokens[scope] = f"Bearer {token.get('token') or token.get('access_token')}"
        return True

    def _session(self) -> requests.Session:
        if self._open is None:
            import requests

            self._open = requests.Session()
            if self._base.startswith("http://"):
                # A proxy of the environment has no way to a registry on loopback or on a private network.
                self._open.trust_env = False
        return self._open

    def _prove(self, content: bytes, digest: str, name: str) -> None:
        if oci.digest(content) != digest:
            raise self._another(digest, name)

    def _another(self, digest: str, name: str) -> RegistryRefused:
        return RegistryRefused(
            f"The registry gave something else than {digest}",
            f"{self.host}/{name}",
            "do not deploy it; look for a proxy in between that rewrites what passes",
        )

    def _refuse(self, reply: requests.Response, what: str) -> NoReturn:
        try:
            errors = reply.json().get("errors", [])
            reason = "; ".join(str(error.get("message") or error.get("code")) for error in errors)
        except (ValueError, AttributeError):
            reason = ""
        next_step = (
            "check the registry's user and password, and that it may push here"
            if reply.status_code in (401, 403)
            else "look at the registry's log"
        )
        raise RegistryRefused(
            f"The registry {what}: {reason or reply.reason} (HTTP {reply.status_code})", self.host, next_step
        )

    def _gone(self, error: Exception | None) -> NoReturn:
        raise RegistryUnreachable(
            f"The registry does not answer ({_innermost(error) if error else 'it fails on every attempt'})",
            self.host,
            "start it or check REGISTRY, then run the same command again: what was uploaded is kept",
        ) from error


class _Chunks:
    """A request body of known length that reports what was sent and can be stopped."""

    def __init__(self, content: IO[bytes], size: int, check: Check, progress: Callable[[int], None]) -> None:
        self._content = content
        self._size = size
        self._check = check
        self._progress = progress

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        while chunk := self._content.read(CHUNK):
            self._check()
            yield chunk
            sent += len(chunk)
            self._progress(sent)

    def rewind(self) -> None:
        self._content.seek(0)


class _Arriving:
    """A reply's body as a file to read, hashed as it passes."""

    def __init__(self, reply: requests.Response, check: Check, progress: Callable[[int], None]) -> None:
        self._raw = reply.raw
        self._check = check
        self._progress = progress
        self._hash = hashlib.sha256()
        self._read = 0

    def read(self, size: int = -1) -> bytes:
        self._check()
        chunk: bytes = self._raw.read(size)
        self._hash.update(chunk)
        self._read += len(chunk)
        self._progress(self._read)
        return chunk

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _with_digest(location: str, digest: str) -> str:
    parts = urlsplit(location)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("digest", digest)])
    return urlunsplit(parts._replace(query=query))


def _shifted(progress: Progress, before: int, everything: int, sent: int) -> None:
    progress(before + sent, everything)


def _innermost(error: BaseException) -> str:
    """Return the message of an exception's first cause, which says more than the wrappers around it."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error) or type(error).__name__


def is_loopback(host: str) -> bool:
    """Tell whether a registry's address is on this machine's loopback."""
    return host.startswith(LOOPBACK)
