"""A pipeline as a program of its own, for tests that interrupt or kill it: `program.py TREE STAGE...`.

A stage named `hang` never ends and has children in sessions of their own; `stubborn` ignores SIGTERM as well;
`python` hangs without any process; `quick` passes; `undo` takes a second to put things back when stopped.
"""

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from scripts.pipeline import events
from scripts.pipeline.errors import Cancelled, SlipwayError
from scripts.pipeline.runner import Order, Runner
from scripts.pipeline.stage import Kind, Outcome, Stage, StageContext

HANG = "setsid sleep 300 & sleep 300 & echo ready; (sleep 300 & wait)"
STUBBORN = f"trap '' TERM INT HUP; {HANG}"


def act(context: StageContext) -> Outcome:
    name = context.stage.partition("-")[0]
    if name == "hang":
        context.run(["sh", "-c", HANG])
    elif name == "stubborn":
        context.run(["sh", "-c", STUBBORN])
    elif name == "python":
        context.say("ready")
        threading.Event().wait(300)
    elif name == "undo":
        context.say("ready")
        try:
            context.cancelled.wait(300)
            context.raise_if_cancelled()
        except Cancelled:
            context.run(["sh", "-c", "sleep 1; echo undone > undone.ignored"], even_if_cancelled=True)
            raise
    return Outcome()


class Printing:
    def handle(self, event: events.Event) -> None:
        line = type(event).__name__
        if isinstance(event, events.StageOutput):
            line = event.line
        elif isinstance(event, events.StageFinished):
            line = f"{event.stage} {event.result}"
        elif isinstance(event, events.Notice):
            line = event.text
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        pass


def main() -> int:
    stages = [
        Stage(
            name=name,
            kind=Kind.CHECK,
            summary=name,
            action=act,
            grace=10.0 if name.startswith("undo") else 1.0,
        )
        for name in sys.argv[2:]
    ]
    order = Order(command="try", names=tuple(stage.name for stage in stages))
    try:
        return Runner(root=Path(sys.argv[1]), stages=stages, order=order, views=[Printing()]).run()
    except SlipwayError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
