"""What libraries call back in the context of whoever has connected: no value of another caller comes out of it."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import redis
import redis.asyncio
import structlog
from captured import Captured, calling, captured
from live import SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REDIS = shutil.which("redis-server") or shutil.which("valkey-server")
VALUE = "S3ntinel-of-bob"
FORMS = (VALUE, VALUE.upper(), VALUE.encode().hex())


def write(value: Any) -> None:
    """Log what was handed over, as an author does."""
    log = structlog.get_logger()
    text = value.decode() if isinstance(value, bytes) else str(value)
    for form in (text, text.upper(), text.encode().hex()):
        log.warning("called back with %s", form, reference=form)
        logging.getLogger("author").error("called back with %s", form)
    log.error("called back with it", exc_info=LookupError(text))


def judge(log: Captured, least: int) -> None:
    """Fail where the value came out, or a line stands under the name of the call that had connected."""
    lines = [line for line in log.lines() if line["msg"].startswith("called back with")]
    assert [form for form in FORMS if form in log.text()] == []
    assert len(lines) >= least * 7
    assert all(line.get("principal") is None for line in lines)


async def test_what_a_database_calls_back_belongs_to_nobody(database_url: str, tmp_path: Path) -> None:
    """Listeners of PostgreSQL, its messages, the log of queries and the end of a connection write no value."""
    heard = {name: asyncio.Event() for name in ("notified", "message", "query", "ended")}

    def tell(name: str, value: Any) -> None:
        write(value)
        heard[name].set()

    with captured(tmp_path / "log", "debug") as log:
        with calling({"text": "of alice"}) as alice:
            connection = await asyncpg.connect(database_url)
            await connection.add_listener("carrier", lambda *given: tell("notified", given[3]))
            connection.add_log_listener(lambda _, message: tell("message", message))
            connection.add_query_logger(lambda record: tell("query", record.query))
            connection.add_termination_listener(lambda _: tell("ended", VALUE))
        alice.answered = True
        with calling({"text": VALUE}, principal=None):
            await connection.execute(f"SELECT pg_notify('carrier', '{VALUE}')")
            await connection.execute(f"DO $$ BEGIN RAISE NOTICE '{VALUE}'; END $$")
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(heard[name].wait() for name in ("notified", "message", "query")))
            await connection.close()
            await heard["ended"].wait()
        judge(log, 4)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis of its own, on a socket file."""
    path = tmp_path / "redis.sock"
    command = [REDIS or "", "--dir", str(tmp_path), "--save", "", "--port", "0", "--unixsocket", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("eady to accept connections" in line for line in process.stdout)
        yield f"unix://{path}"
        process.kill()


@pytest.mark.skipif(REDIS is None, reason="redis-server is missing: install Redis or Valkey")
async def test_what_redis_calls_back_belongs_to_nobody(redis_url: str, tmp_path: Path) -> None:
    """Handlers of channels, in a task and in the client's own thread, write no value of a call."""
    heard, in_thread = asyncio.Event(), threading.Event()

    def tell(message: Any) -> None:
        write(message["data"])
        heard.set()

    def tell_in_thread(message: Any) -> None:
        write(message["data"])
        in_thread.set()

    with captured(tmp_path / "log", "debug") as log:
        with calling({"text": "of alice"}) as alice:
            client = redis.asyncio.Redis.from_url(redis_url)
            channel = client.pubsub()
            await channel.subscribe(carrier=tell)
            task = asyncio.create_task(channel.run())
            blocking = redis.Redis.from_url(redis_url)
            listener = blocking.pubsub()
            listener.subscribe(carrier=tell_in_thread)
            thread = listener.run_in_thread(sleep_time=0.01, daemon=True)
        alice.answered = True
        try:
            with calling({"text": VALUE}, principal=None):
                await client.publish("carrier", VALUE)
            async with asyncio.timeout(SECONDS):
                await heard.wait()
            assert await asyncio.to_thread(in_thread.wait, SECONDS)
        finally:
            thread.stop()
            await asyncio.to_thread(thread.join, SECONDS)
            task.cancel()
            await asyncio.wait({task})
            await channel.aclose()
            await client.aclose()
            listener.close()
            blocking.close()
        judge(log, 2)
