import pytest

from scripts.deployment.errors import DeploymentError
from scripts.deployment.release import FAILED, ROLLED_BACK
from scripts.deployment.rollback import choose
from tests.deployment.records import DIGEST, OTHER, release


def test_without_a_name_it_is_the_last_good_release_that_differs() -> None:
    releases = [
        release(5, digest=DIGEST),
        release(4, digest=DIGEST),
        release(3, digest=OTHER, state=FAILED),
        release(2, digest=OTHER),
        release(1, digest=OTHER),
    ]
    assert choose(releases).number == 2


def test_a_second_rollback_does_not_return_to_what_the_first_left() -> None:
    """Release 3 was rolled back to 2, recorded as 4: the next one goes to 1."""
    releases = [
        release(4, fingerprint="two"),
        release(3, fingerprint="three", state=ROLLED_BACK),
        release(2, fingerprint="two"),
        release(1, fingerprint="one"),
    ]
    assert choose(releases).number == 1


@pytest.mark.parametrize("to", ["2", "sha256:bbbbbbbbb", "bbbbbb"])
def test_a_release_is_named_by_number_or_by_the_start_of_its_digest(to: str) -> None:
    assert choose([release(3), release(2, digest=OTHER)], to).number == 2


def test_a_name_that_fits_no_good_release_is_refused_with_the_choice() -> None:
    releases = [release(3), release(2, digest=OTHER, state=FAILED), release(1, digest=OTHER)]
    with pytest.raises(DeploymentError, match="no good release '2'") as caught:
        choose(releases, "2")
    assert "3, 1" in caught.value.next_step


def test_with_nothing_earlier_there_is_nothing_to_go_back_to() -> None:
    with pytest.raises(DeploymentError, match="no earlier good release"):
        choose([release(1)])
