"""What a node has done, in numbers."""

import threading

from dfs.core.tally import Tally


def test_tallies_add_up() -> None:
    one, two, all_of_them = Tally(), Tally(), Tally()
    one.asked(3, 100)
    one.asked(3, 50)
    one.failed("LoginError")
    two.asked(4, 1)
    two.failed("LoginError")
    two.sent_size += 7
    for each in (one, two):
        all_of_them.add(each)
    assert all_of_them.requests == {3: 2, 4: 1}
    assert all_of_them.errors == {"LoginError": 2}
    assert (all_of_them.received_size, all_of_them.sent_size) == (151, 7)
    assert one.requests == {3: 2}


def test_one_may_be_added_while_its_owner_goes_on() -> None:
    busy = Tally()
    ended = threading.Event()

    def count() -> None:
        while not ended.is_set():
            for code in range(2000):
                busy.asked(code, 1)
            busy.requests.clear()

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(500):
            Tally().add(busy)
    finally:
        ended.set()
        thread.join()
