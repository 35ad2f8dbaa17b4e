"""Asking an actor: one message, one answer."""

from __future__ import annotations

from mshv_async.sim import Mailbox, Reply, Runtime, ask, current, run_on_stage
from mshv_async.sim.strategies import RandomWalk


def test_an_actor_answers_each_question_of_each_caller() -> None:
    answers: list[tuple[str, int]] = []

    def build(rt: Runtime) -> None:
        box: Mailbox[tuple[int, Reply[int]]] = Mailbox("doubler")

        async def doubler() -> None:
            while True:
                number, reply = await box.receive()
                reply.set(2 * number)

        def caller(number: int):
            async def body() -> None:
                answer = await ask(box, lambda reply: (number, reply))
                assert answer is not None
                answers.append((current().name, answer))

            return body

        rt.spawn("doubler", doubler, daemon=True)
        for number in range(3):
            rt.spawn(f"caller{number}", caller(number))

    async def act(stage) -> None:
        strategy = RandomWalk(1)
        for execution in range(30):
            strategy.begin(execution)
            rt = Runtime(strategy)
            build(rt)
            await stage.play(rt)
            assert rt.finding is None

    run_on_stage(act)
    assert sorted(set(answers)) == [("caller0", 0), ("caller1", 2), ("caller2", 4)]
    assert len(answers) == 90
