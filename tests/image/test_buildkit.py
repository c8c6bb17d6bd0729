"""BuildKit's transcript is shortened for a reader, and a failure begins with the failing step's own lines."""

from scripts.image.buildkit import Transcript

GOOD = """\
#0 building with "default" instance using docker driver
#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 3.05kB done
#1 DONE 0.0s
#5 [tools 2/2] RUN apt-get update     && apt-get install -y python3
#5 CACHED
#6 [code 3/3] RUN python3 code.py
#6 0.512 compiling

#7 [tools 1/2] FROM base
#6 [code 3/3] RUN python3 code.py
#6 DONE 1.0s
#9 exporting to oci image format
"""
BAD = """\
#7 [code 3/3] RUN false
#7 0.312 it broke here
#7 ERROR: process "/bin/sh -c false" did not complete successfully: exit code: 1
------
 > [code 3/3] RUN false:
0.312 it broke here
------
Dockerfile:40
--------------------
  40 | >>> RUN false
--------------------
ERROR: failed to solve: process "/bin/sh -c false" did not complete successfully: exit code: 1
"""


def read(text: str) -> tuple[Transcript, list[str], list[str]]:
    said: list[str] = []
    progress: list[str] = []
    transcript = Transcript(said.append, progress.append)
    for line in text.splitlines():
        transcript.line(line)
    return transcript, said, progress


def test_steps_that_ran_are_told_once_with_their_time_and_output() -> None:
    _, said, progress = read(GOOD)
    assert progress == [
        "[tools 2/2] RUN apt-get update && apt-get install -y python3",
        "[code 3/3] RUN python3 code.py",
        "[tools 1/2] FROM base",
    ]
    assert "  compiling" in said
    assert "[code 3/3] RUN python3 code.py 1.0s" in said
    assert not any("transferring" in line or "tools" in line or "[internal]" in line for line in said)


def test_a_failure_begins_with_the_failing_step() -> None:
    transcript, _, _ = read(BAD)
    failure = transcript.failure()
    assert failure[:2] == [" > [code 3/3] RUN false:", "it broke here"]
    assert failure[-1].startswith("ERROR: failed to solve")


def test_a_failure_without_a_step_shows_the_last_lines() -> None:
    transcript, _, _ = read("something\nERROR: Cannot connect to the Docker daemon")
    assert transcript.failure()[0] == "something"
    assert transcript.mentions("Cannot connect")


def test_a_long_step_is_cut_to_fit_a_line() -> None:
    _, said, progress = read("#4 [a 1/1] RUN " + "word " * 100 + "\n#4 DONE 2.0s")
    assert len(said[0]) <= 110
    assert len(progress[0]) <= 60
    assert said[0].endswith("… 2.0s")
