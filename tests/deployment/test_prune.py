from scripts.deployment.prune import kept
from scripts.deployment.release import FAILED, Release
from tests.deployment.records import release


def numbers(releases: list[Release]) -> list[int]:
    return [each.number for each in releases]


def test_the_last_releases_with_different_contents_stay() -> None:
    releases = [release(number, fingerprint=f"f{number}") for number in range(9, 0, -1)]
    assert numbers(kept(releases, 5)) == [9, 8, 7, 6, 5]


def test_deploying_the_same_again_pushes_no_other_release_out() -> None:
    releases = [release(number, fingerprint="same") for number in range(9, 2, -1)]
    releases += [release(2, fingerprint="b"), release(1, fingerprint="a")]
    assert {2, 1} <= set(numbers(kept(releases, 3)))


def test_a_failure_is_kept_as_long_as_the_good_release_before_it() -> None:
    releases = [
        release(4, fingerprint="d"),
        release(3, fingerprint="c", state=FAILED),
        release(2, fingerprint="b"),
        release(1, fingerprint="a"),
    ]
    assert numbers(kept(releases, 2)) == [4, 3, 2]


def test_failures_alone_do_not_pile_up() -> None:
    releases = [release(number, state=FAILED) for number in range(30, 0, -1)]
    assert len(kept(releases, 5)) == 20
