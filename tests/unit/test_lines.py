"""Many operations over few connections that are hurried, dropped and broken: each gets its own answers."""

import random
import threading
import time

import pytest
from attrs import evolve

from dfs.core import messages
from dfs.core.effects import Drop, Effect, Event, Hurry, Operation, Reply, Send, Work
from dfs.core.env import RealEnv
from dfs.core.runner import Runner
from tests.unit.benches import NODE, Bench, Make, address as address, make as make

TIME_S = 2.0
ANSWERS: dict[messages.Request, type[messages.Response] | None] = {
    messages.Ping(): messages.Empty,
    messages.Status(): messages.StatusReply,
    messages.Has(()): messages.HasReply,
    messages.Activate(bytes(32)): None,  # refused
}
BUSY = Work("work", lambda: random.Random(1).randbytes(1_000_000))


@pytest.fixture
def bench(make: Make, address: str) -> Bench:
    """A link of two connections."""
    return make(address, connection_count_max=2, request_timeout_s=5.0)


def jumble(chance: random.Random, answered: list[bool]) -> Operation[None]:
    """Ask this and that, forget some of it, and check that every answer is one to its question."""
    asked: dict[object, messages.Request] = {}
    for step in range(chance.randrange(1, 6)):
        effects: list[Effect] = []
        for tag in list(asked):
            if chance.random() < 0.1:
                del asked[tag]
                effects.append(Drop(tag))
            elif chance.random() < 0.02:
                effects.append(Hurry(tag, 0.001, remember=False, knock=chance.random() < 0.5))
        for number in range(chance.randrange(1, 4)):
            asked[step, number] = chance.choice(list(ANSWERS))
            effects.append(Send((step, number), NODE, asked[step, number]))
        if chance.random() < 0.2:
            effects.append(evolve(BUSY, brief=chance.random() < 0.5))
        event = yield tuple(effects)
        while True:
            check(event, asked.pop(event.tag, None), answered)
            if not asked or chance.random() < 0.5:
                break
            event = yield ()
    while asked:
        event = yield ()
        check(event, asked.pop(event.tag, None), answered)


def check(event: Event, request: messages.Request | None, answered: list[bool]) -> None:
    assert request is not None or event.tag == "work"
    if isinstance(event, Reply) and request is not None:
        expected = ANSWERS[request]
        assert expected is not None
        assert isinstance(event.response, expected)
        answered.append(True)


def test_every_answer_finds_its_question(bench: Bench) -> None:
    runner = Runner({NODE: bench.link}, RealEnv(), 2)
    bench.ask()
    until_s = time.monotonic() + TIME_S
    answered: list[bool] = []
    ended: list[int] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < until_s:
            runner.run(jumble(chance, answered))
        ended.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    while alive := [thread for thread in threads if thread.is_alive()]:
        alive[0].join(0.05)
        bench.link.begin_command()
        if (stream := bench.way.streams[-1]) is not None:
            stream.close()
        assert time.monotonic() < until_s + 30, "somebody waits for ever"
    assert sorted(ended) == [0, 1, 2]
    assert len(answered) > 50
    runner.close()
