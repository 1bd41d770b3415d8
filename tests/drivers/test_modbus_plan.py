from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from drivers.base import Point
from drivers.modbus.plan import Limits, crosses, plan, span
from drivers.modbus.register import Register


def words(*places, table="holding"):
    return [Point(f"{table}_{at}", Register(table, at)) for at in places]


def names(groups):
    return [[point.where.at for point in group] for group in groups]


def test_neighbours_are_one_request_whatever_their_order():
    assert names(plan(words(2, 0, 1), Limits())) == [[0, 1, 2]]


def test_a_hole_is_bridged_only_when_it_is_cheap():
    assert names(plan(words(0, 5), Limits(bridge=4))) == [[0, 5]]
    assert names(plan(words(0, 6), Limits(bridge=4))) == [[0], [6]]


def test_a_hole_of_bits_counts_by_its_bytes():
    assert names(plan(words(0, 65, table="coil"), Limits(bridge=4))) == [[0, 65]]
    assert names(plan(words(0, 66, table="coil"), Limits(bridge=4))) == [[0], [66]]


def test_the_limits_of_the_device_are_kept():
    assert names(plan(words(0, 1, 2, 3), Limits(max_registers=2))) == [[0, 1], [2, 3]]
    assert names(plan(words(0, 1, 2, table="coil"), Limits(max_bits=2))) == [[0, 1], [2]]
    assert names(plan(words(0, 1), Limits(single=True))) == [[0], [1]]


def test_a_forbidden_range_is_not_crossed():
    assert names(plan(words(0, 1, 4, 5), Limits(bridge=9, avoid=(("holding", 2, 1),)))) == [[0, 1], [4, 5]]
    assert names(plan(words(0, 1, 4, 5), Limits(bridge=9, avoid=(("input", 2, 1),)))) == [[0, 1, 4, 5]]


def test_a_border_is_not_crossed():
    assert names(plan(words(0, 1, 2, 3), Limits(avoid=(("holding", 2, 0),)))) == [[0, 1], [2, 3]]


def test_a_point_inside_a_forbidden_range_is_asked_for_alone():
    assert names(plan(words(0, 1, 2), Limits(avoid=(("holding", 1, 1),)))) == [[0], [1], [2]]


def test_a_value_inside_another_does_not_end_the_group_early():
    wide = Point("wide", Register("holding", 0, "u64"))
    assert len(plan([wide, *words(1, 4)], Limits())) == 1


LIMITS = st.builds(
    Limits,
    max_registers=st.integers(1, 125),
    max_bits=st.integers(1, 2000),
    bridge=st.integers(0, 20),
    single=st.booleans(),
    avoid=st.lists(
        st.tuples(st.sampled_from(["coil", "holding"]), st.integers(0, 300), st.integers(0, 9)), max_size=5
    ).map(tuple),
)
REGISTERS = st.one_of(
    st.builds(Register, st.sampled_from(["coil", "discrete"]), st.integers(0, 3000)),
    st.builds(
        Register, st.sampled_from(["holding", "input"]), st.integers(0, 300), st.sampled_from(["u16", "f32", "u64"])
    ),
)
POINTS = st.lists(REGISTERS, max_size=40).map(lambda all_: [Point(f"p{n}", where) for n, where in enumerate(all_)])


@given(POINTS, LIMITS, st.randoms())
def test_every_plan_is_lawful(points, limits, random):
    groups = plan(points, limits)
    assert sorted(point.name for group in groups for point in group) == sorted(point.name for point in points)
    for group in groups:
        table, first, count = span(group)
        assert {point.where.table for point in group} == {table}
        if len(group) > 1:
            assert not limits.single
            assert count <= (limits.max_bits if table in ("coil", "discrete") else limits.max_registers)
            assert not crosses(limits.avoid, table, first, count)
    shuffled = list(points)
    random.shuffle(shuffled)
    assert [[point.where for point in group] for group in plan(shuffled, limits)] == [
        [point.where for point in group] for group in groups
    ]


@given(POINTS, LIMITS)
def test_no_two_neighbouring_groups_could_be_one(points, limits):
    groups = plan(points, limits)
    for left, right in pairwise(groups):
        together = plan([*left, right[0]], limits)
        assert len(together) > 1
