"""Which runs share an ensemble, and in what order."""

from dataclasses import replace

from stand_in import GRID, ensemble_key

from proximo.experiments.grid import cells, groups, split_evenly


def sizes(found):
    return [len(group.cells) for group in found]


def test_kin_on_one_environment_share_an_ensemble():
    found = groups(cells(GRID), ensemble_key, members=12, processes=1)
    assert sizes(found) == [2, 2, 2, 2]
    for group in found:
        assert len({(cell.env, cell.setting) for cell in group.cells}) == 1
    assert groups(cells(GRID), ensemble_key, members=1, processes=1) == groups(cells(GRID), id, 12, 1)


def test_no_ensemble_is_larger_than_asked_for_and_none_is_left_small():
    many = replace(GRID, seeds=range(13), environments=["CartPole-v1"])
    # 13 runs of each of two settings, at most 12 together: 6 and 7, not 12 and 1.
    assert sizes(groups(cells(many), ensemble_key, members=12, processes=1)) == [7, 7, 6, 6]


def test_the_longest_come_first():
    some = cells(replace(GRID, seeds=range(3)), settings=["low"]) + cells(GRID, settings=["high"])
    assert sizes(groups(some, ensemble_key, members=12, processes=1)) == [3, 3, 2, 2]


def test_no_core_stays_idle_while_an_ensemble_can_be_split():
    one = cells(replace(GRID, seeds=range(8)), ["CartPole-v1"], ["low"])
    assert sizes(groups(one, ensemble_key, members=12, processes=1)) == [8]
    assert sizes(groups(one, ensemble_key, members=12, processes=3)) == [4, 2, 2]
    assert sizes(groups(one, ensemble_key, members=12, processes=99)) == [1] * 8
    assert groups([], ensemble_key, members=12, processes=2) == []


def test_every_run_is_in_one_ensemble():
    many = cells(replace(GRID, seeds=range(7)))
    for members in (1, 2, 3, 12):
        found = [cell for group in groups(many, ensemble_key, members, processes=5) for cell in group.cells]
        assert sorted(cell.name for cell in found) == sorted(cell.name for cell in many)


def test_shares():
    assert split_evenly([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4, 5]]
