"""The real image of this tree, and images made from it that fail in one way each."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import ImageNotFound

from scripts.image import builder, engine
from scripts.image.console import Aside

ROOT = Path(__file__).resolve().parents[2]
ARCHIVES = ROOT / ".slipway" / "images"

FAULTS = {
    "crash": "import sys; sys.exit('the release cannot start: its first line')",
    "refuse": "import sys; print('error LOG_LEVEL: no such level', file=sys.stderr); sys.exit(2)",
    # Never ready, and ends at once when told to.
    "stuck": "import signal; print('waiting for ever', flush=True); signal.sigwait({signal.SIGTERM})",
    # Ready and of the right digest, but every page is an error.
    "errors": """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        fine = self.path in ("/readyz", "/livez", "/version")
        body = json.dumps({"digest": os.environ["RELEASE_DIGEST"]}).encode()
        self.send_response(200 if fine else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
""",
}
FAULTY_MAIN = """
import sys
if sys.argv[1:] in ([], ["serve"]):
{fault}
import runpy
sys.argv[0] = "app"
runpy.run_module("app", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image on this machine's engine: a repository without a registry behind it, and a digest."""

    repository: str
    digest: str


def built() -> Image:
    """Build this tree's image as the pipeline does, and load it into the engine, once for each content."""
    client = engine.connect()
    try:
        made = builder.build(client, ROOT, ARCHIVES, console=Aside())
        return loaded(client, made.archive, made.digest)
    finally:
        client.close()


def loaded(client: docker.DockerClient, archive: Path, digest: str) -> Image:
    """Give the engine an archive's image under a name of the tests' own."""
    name = f"slipway-test:{digest[7:19]}"
    try:
        client.images.get(name)
    except ImageNotFound:
        subprocess.run(
            [*engine.cli(), "load", "--quiet", "--input", str(archive)], check=True, capture_output=True
        )
        client.api.tag(digest, "slipway-test", digest[7:19])
    return Image(repository="slipway-test", digest=digest)


def variant(image: Image, name: str, files: dict[str, str], *instructions: str) -> Image:
    """Return an image made from another: files laid over it, and further lines of its Dockerfile."""
    base = f"{image.repository}:{image.digest[7:19]}"
    tag = f"{image.repository}:{image.digest[7:19]}-{name}"
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            destination = Path(folder) / "files" / path.lstrip("/")
            destination.parent.mkdir(parents=True, exist_ok=True)
            destination.write_text(text)
        lines = [f"FROM {base}", *(["COPY files/ /"] if files else []), *instructions]
        (Path(folder) / "Dockerfile").write_text("\n".join(lines) + "\n")
        metadata = Path(folder) / "metadata.json"
        words = ["buildx", "build", "--quiet", "--load", "--provenance=false", "--tag", tag]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
        subprocess.run(
            [*engine.cli(), *words, f"--metadata-file={metadata}", folder],
            check=True,
            capture_output=True,
            env=environment,
        )
        digest = json.loads(metadata.read_text())["containerimage.digest"]
    return Image(repository=image.repository, digest=digest)


def faulty(image: Image, fault: str) -> Image:
    """Return an image whose service has the fault; its probe and its migrations work."""
    body = "\n".join(f"    {line}" for line in FAULTS[fault].strip().splitlines())
    main = FAULTY_MAIN.format(fault=body)
    return variant(
        image, fault, {"/fault/main.py": main}, 'ENTRYPOINT ["python3", "/fault/main.py"]', 'CMD ["serve"]'
    )


def changed(image: Image) -> Image:
    """Return an image of another digest that behaves the same."""
    return variant(image, "changed", {}, 'LABEL changed="yes"')


def unmigratable(image: Image) -> Image:
    """Return an image with a migration that fails."""
    broken = '''"""Break."""

revision = "9999"
down_revision = "0001"


def upgrade() -> None:
    raise RuntimeError("this migration is broken on purpose")


def downgrade() -> None:
    pass
'''
    return variant(image, "unmigratable", {"/app/app/database/migrations/versions/9999_broken.py": broken})
