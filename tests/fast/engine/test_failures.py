"""The last error of a step, in its own words: in the run's reason and in the log of the process."""

import json
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

import pytest

from amends import Call, Policy, Redacted, Retry, Saga, run
from amends.core.run import events as e
from amends.core.run.answers import CallResponse, Cause
from amends.core.run.decision import failed
from amends.core.saga.outcomes import Compensated, Completed
from amends.core.words.keys import Phase
from amends.core.words.limits import REASON_CHARACTERS_MAX
from amends.engine.failure_log import LINES_MAX, WITHIN_SECONDS, FailureLog
from tests.fast.engine.support import UNREACHED, Pretend, Script, Shop, opened, order_saga, virtually, yes
from tests.support.stories import Story, c

SOON: Final = timedelta(milliseconds=1)
TWICE: Final = Policy(retry=Retry(attempts_max=2))


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == "amends.steps"]


def test_a_503_is_told_as_an_answer_with_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    body = json.dumps({"detail": "the disk is full"}).encode()
    broken = CallResponse(503, {"content-type": "application/json"}, body, "http://shop/act")
    shop = Pretend(Script(reserve=broken))

    async def test() -> None:
        order = order_saga(policy=TWICE)
        async with opened([order], shop=shop) as runs:
            outcome = await (await runs.start(order, "x", id="o")).outcome()
            assert isinstance(outcome, Compensated)
            assert outcome.reason == "reserve failed: 503 from http://shop/act: the disk is full"

    virtually(test)
    first, second = lines(caplog)
    assert first.startswith("o: reserve failed (attempt 1), it is tried again in ")
    assert first.endswith("s: 503 from http://shop/act: the disk is full")
    assert second == "o: the run turns back: reserve failed: 503 from http://shop/act: the disk is full"


def test_a_compensation_that_fails_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    shop = Pretend(
        Script(pay=CallResponse(409, {"saga-outcome": "rejected"}, b"{}", "x"), reserve_compensation=[UNREACHED, yes()])
    )

    async def test() -> None:
        order = order_saga()
        async with opened([order], shop=shop) as runs:
            assert isinstance(await (await runs.start(order, "x", id="o")).outcome(), Compensated)

    virtually(test)
    assert any(
        each.startswith("o: reserve, compensation failed (attempt 1), it is tried again in ") for each in lines(caplog)
    )


def test_run_says_that_a_step_is_tried_again_and_where_it_failed(caplog: pytest.LogCaptureFixture) -> None:
    saga = Saga("trip", str)
    raised: list[str] = []

    @saga.compensable(policy=Policy(retry=Retry(first=SOON, cap=SOON)))
    async def hotel(city: str) -> str:
        if not raised:
            raised.append(city)
            msg = "the rooms aren't counted yet"
            raise LookupError(msg)
        return city

    @hotel.compensation
    async def cancel_hotel(city: str, room: str | None) -> None:
        """Nothing to undo."""

    assert isinstance(run(saga, "Rome", id="t"), Completed)
    assert raised
    attempt, again = [each for each in caplog.records if each.name == "amends.steps"]
    assert attempt.levelno == again.levelno == logging.WARNING
    assert attempt.exc_info is not None
    assert isinstance(attempt.exc_info[1], LookupError)
    assert attempt.getMessage().startswith(
        "t: hotel, attempt 1: LookupError: the rooms aren't counted yet (test_failures.py:"
    )
    assert again.getMessage().startswith("t: hotel failed (attempt 1), it is tried again in ")


def test_an_outage_is_told_in_a_few_lines_and_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    failures = FailureLog(lambda: now[0])
    story = Story(c("a"))
    over = e.AttemptFailed(0, 1, "a", "", Phase.ACTION, Cause.LOST, "cut off", 1_000_000, counted=True)
    failures.tell(story.definition, story.record, [over] * (LINES_MAX + 7))
    assert len(lines(caplog)) == LINES_MAX
    now[0] = WITHIN_SECONDS
    failures.tell(story.definition, story.record, [over])
    assert lines(caplog)[-1].endswith("cut off (7 more like it were not written here)")


@pytest.mark.parametrize("cause", [Cause.PENDING, Cause.IN_PROGRESS, Cause.WITHDRAWN])
def test_work_that_goes_on_is_no_failure(cause: Cause, caplog: pytest.LogCaptureFixture) -> None:
    over = e.AttemptFailed(0, 1, "a", "", Phase.ACTION, cause, "still at work", 1_000_000, counted=False)
    FailureLog(lambda: 0.0).tell(Story(c("a")).definition, Story(c("a")).record, [over])
    assert not lines(caplog)


def test_a_reason_keeps_within_its_limit() -> None:
    reason = failed("a", Cause.SERVER_ERROR, "x" * 2_000)
    assert reason.startswith("a failed: xxx")
    assert len(reason) == REASON_CHARACTERS_MAX


@dataclass
class Payer:
    card: Annotated[str, Redacted]


def test_an_error_that_may_repeat_a_hidden_value_is_not_written_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    saga = Saga("hides", Payer)

    @saga.compensable(policy=TWICE)
    def reserve(payer: Payer) -> Call[str]:
        return Shop.act(payer.card)

    refused = CallResponse(503, {"content-type": "text/plain"}, b"no money on 4111-7351", "http://shop/act")

    async def test() -> None:
        async with opened([saga], shop=Pretend(Script(reserve=refused))) as runs:
            outcome = await (await runs.start(saga, Payer("4111-7351"), id="o")).outcome()
            assert isinstance(outcome, Compensated)
            assert "4111-7351" in outcome.reason, "the program that runs it may know"

    virtually(test)
    first, second = lines(caplog)
    assert "4111" not in first + second
    assert "server-error" in first
    assert second.startswith("o: the run turns back: reserve, no-answer")
