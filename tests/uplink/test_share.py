"""How much backlog goes out beside live data: much on a quick line, one batch at a time on a slow one."""

from __future__ import annotations

from gateway.uplink.share import Share


def most_of(share: Share) -> int:
    return max(count + 1 for count in range(100) if share.admits(count))


def test_a_line_that_answers_soon_is_filled_step_by_step():
    share = Share(10)
    found = []
    for _ in range(12):
        found.append(most_of(share))
        share.answered(0.05)
    assert found == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10]


def test_answers_that_take_long_leave_one_batch_at_a_time():
    share = Share(10)
    for _ in range(20):
        share.answered(0.05)
    for _ in range(5):
        share.answered(3.0)
    assert most_of(share) == 1
    share.answered(0.06)
    assert most_of(share) == 2


def test_a_line_that_is_far_and_quick_is_filled_too():
    share = Share(10)
    for _ in range(20):
        share.answered(0.7)
    assert most_of(share) == 10
