"""Runs one stage's action in the tree that it is started in, for strace: `narrowed.py STAGE OUTPUTS`.

OUTPUTS is a JSON file with the outputs of the stages before it; those of this stage are added.
"""

import contextlib
import json
import sys
from pathlib import Path


def main() -> None:
    from config.settings import load
    from scripts import run
    from scripts.pipeline.errors import StageFailure
    from scripts.pipeline.stage import StageContext

    name, kept = sys.argv[1], Path(sys.argv[2])
    outputs = json.loads(kept.read_text()) if kept.exists() else {}
    settings = None if name == "lint" else load("development")
    (stage,) = run.load_stages([name], settings)
    directory = run.ROOT / ".slipway" / "runs" / "narrowed"
    directory.mkdir(parents=True, exist_ok=True)
    context = StageContext(
        stage=name, root=run.ROOT, directory=directory, run_id="narrowed", outputs=outputs, workers=2
    )
    # Findings are for `invoke lint`; here only what was read counts.
    with contextlib.suppress(StageFailure):
        outputs[name] = dict(stage.action(context).outputs)
    context.close()
    kept.write_text(json.dumps(outputs))


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main()
