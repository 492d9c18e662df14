"""Shoppers of a drill, against a service that breaks when it is told to."""

import asyncio
import json
import threading

import pytest

from scripts import shoppers
from scripts.load_schedule import Schedule
from scripts.measuring import Report
from scripts.shoppers import Moments, Seen

ANSWER = json.dumps({"model": "m1", "index": {"collection": "products_m1_1"}, "degraded": ["no_object"]})
OTHER = ANSWER.replace("products_m1_1", "products_m2_1")


class Service:
    """Answer over HTTP with `body`, or close connections while `broken`."""

    def __init__(self) -> None:
        self.broken = False
        self.body = ANSWER

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        await reader.readexactly(length)
        if not self.broken:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n{self.body}".encode())
        writer.close()


@pytest.fixture
async def service():
    found = Service()
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield found
    server.close()


async def drilled(service, harm, mend_s, monkeypatch):
    monkeypatch.setattr(shoppers, "RETRY_AFTER_S", 1.0)

    async def mend():
        await asyncio.sleep(mend_s)
        service.broken = False

    return await shoppers.search([service.url], b"photo", Schedule("steady", 50, 50, 1.0), 0.3, harm, mend, fresh=True)


async def test_a_broken_connection_counts_once_and_is_tried_again(service, monkeypatch):
    seen, moments = await drilled(service, lambda: setattr(service, "broken", True), 0.1, monkeypatch)
    broken = [each for each in seen if each.first == "broken_connection"]
    assert broken
    assert all(each.ended_s >= moments.before_s for each in broken)
    assert len(broken) < len(seen)
    assert {each.last for each in seen} == {"ok"}
    assert not any(each.wrong or each.degraded for each in seen)


async def test_an_answer_of_another_models_index_is_wrong(service, monkeypatch):
    seen, _ = await drilled(service, lambda: setattr(service, "body", OTHER), 0.0, monkeypatch)
    assert any(each.wrong for each in seen)


def test_what_was_in_flight_may_fail_once_and_nothing_else():
    seen = [
        Seen(1.0, 1.1, "ok", "ok", False, False),
        Seen(1.9, 2.6, "broken_connection", "ok", False, False),
        Seen(3.0, 3.1, "ok", "ok", False, False),
    ]
    for may_break, exit_code in ((True, 0), (False, 1)):
        report = Report("drill", {})
        shoppers.judge(report, "kill", seen, Moments(2.0, 2.1, 2.5), 4.0, may_break=may_break)
        assert report.exit_code() == exit_code
        assert report.rows[0]["in flight"] == 1
    report = Report("drill", {})
    lost = [*seen, Seen(2.05, 2.6, "broken_connection", "broken_connection", False, False)]
    shoppers.judge(report, "kill", lost, Moments(2.0, 2.1, 2.5), 4.0, may_break=True)
    assert report.exit_code() == 1


async def test_shoppers_search_for_as_long_as_the_work_takes(service):
    begun, done = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work():
        loop.call_soon_threadsafe(begun.set)
        return done.wait(30)

    shopping = asyncio.create_task(shoppers.search_during([service.url], [b"one", b"two"], 50, 5.0, work))
    await begun.wait()
    await asyncio.sleep(0.2)
    service.body = OTHER
    await asyncio.sleep(0.2)
    service.broken = True
    await asyncio.sleep(0.2)
    done.set()
    seen, result = await shopping
    assert result is True
    assert {(each.first, each.wrong) for each in seen} == {("ok", False), ("ok", True), ("broken_connection", False)}


async def test_work_that_fails_ends_the_shopping(service):
    def work():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await shoppers.search_during([service.url], [b"one"], 50, 5.0, work)
