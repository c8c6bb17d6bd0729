from dataclasses import replace

from scripts.deployment.difference import difference, drift
from tests.deployment.records import OTHER, RENDERING, release


def test_the_same_rendering_differs_in_nothing() -> None:
    assert difference(release(1), RENDERING) == []


def test_a_first_deployment_says_so() -> None:
    assert difference(None, RENDERING) == ["first deployment of aaaaaaaaaaaa, 2 replicas"]


def test_a_new_image_is_one_line_although_its_digest_is_also_in_the_environment() -> None:
    after = replace(
        RENDERING,
        digest=OTHER,
        values={**RENDERING.values, "IMAGE": f"r/i@{OTHER}"},
        environment={**RENDERING.environment, "RELEASE_DIGEST": OTHER},
    )
    assert difference(release(1), after) == ["image aaaaaaaaaaaa -> bbbbbbbbbbbb"]


def test_settings_are_shown_by_value_and_secrets_by_their_version_only() -> None:
    after = replace(
        RENDERING,
        values={**RENDERING.values, "REPLICAS": "3"},
        environment={**RENDERING.environment, "LOG_LEVEL": "DEBUG"},
        secrets={"SECRET_KEY": "s.SECRET_KEY.bbb", "LEDGER_TOKEN": "s.LEDGER_TOKEN.ccc"},
    )
    assert difference(release(1), after) == [
        "REPLICAS 2 -> 3",
        "environment LOG_LEVEL + DEBUG",
        "secret LEDGER_TOKEN + ccc",
        "secret SECRET_KEY aaa -> bbb",
    ]


def test_a_change_of_the_stack_file_alone_is_a_difference() -> None:
    assert difference(release(1), replace(RENDERING, file_hash="g")) == ["docker/stack.yml changed"]


def test_drift_is_any_other_specification_than_the_recorded_one() -> None:
    recorded = replace(release(1), services="h1")
    assert not drift(recorded, "h1")
    assert drift(recorded, "h2")
    assert not drift(None, "h2")
