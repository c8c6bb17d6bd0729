"""The CPU budget is what this process may really use, and no stage waits for the widest one."""

from scripts.pipeline.budget import Budget, processors, quota


def test_the_widest_takes_what_it_can_use_and_the_next_what_is_left() -> None:
    budget = Budget(4)
    assert budget.take("test", 3) == 3
    assert budget.take("lint", 4) == 1
    assert budget.free == 0


def test_who_finds_nothing_left_rides_along_and_takes_nothing() -> None:
    budget = Budget(2)
    assert budget.take("test", 8) == 2
    assert budget.take("lint", 4) == 1
    budget.give_back("lint")
    assert budget.free == 0
    budget.give_back("test")
    assert budget.free == 2


def test_a_single_process_takes_nothing() -> None:
    budget = Budget(2)
    assert budget.take("build", 1) == 1
    assert budget.free == 2


def test_giving_back_twice_gives_nothing() -> None:
    budget = Budget(2)
    budget.take("test", 2)
    budget.give_back("test")
    budget.give_back("test")
    assert budget.free == 2


def test_a_control_groups_quota_is_read_in_both_versions() -> None:
    assert quota("150000 100000\n", ("", "")) == 1.5
    assert quota("max 100000\n", ("", "")) is None
    assert quota("", ("200000\n", "100000\n")) == 2
    assert quota("", ("-1\n", "100000\n")) is None
    assert quota("", ("", "")) is None
    assert quota("nonsense", ("", "")) is None
    assert quota("1 0", ("", "")) is None


def test_there_is_at_least_one_processor() -> None:
    import os

    assert 1 <= processors() <= (os.cpu_count() or 1)
