"""Results come in order, a few of them ahead."""

import threading

import pytest

from soft_teacher.deploy.ahead import ahead


@pytest.mark.parametrize(
    "items, found", [([], []), ([3], [9]), (range(20), [n * n for n in range(20)])]
)
def test_results_are_in_the_order_of_the_items(items, found):
    assert list(ahead(lambda n: n * n, items, threads=3, depth=4)) == found


def test_no_more_items_are_taken_than_may_wait():
    taken = []
    results = ahead(lambda n: n, (taken.append(n) or n for n in range(100)), threads=2, depth=5)
    assert next(results) == 0 and len(taken) == 6
    assert next(results) == 1 and len(taken) == 7
    results.close()


def test_work_goes_on_while_a_result_is_looked_at():
    done = threading.Event()
    results = ahead(lambda n: n and done.set(), range(3), threads=1, depth=2)
    next(results)
    assert done.wait(10)
    results.close()


def test_an_error_is_raised_where_its_result_would_be():
    results = ahead(lambda n: 1 / n, [1, 0, 2], threads=1, depth=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
