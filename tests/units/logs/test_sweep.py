"""The sweep that every project has, with the fewest lines, and against a server without protection."""

from __future__ import annotations

from collector import collecting
from live import KEY, Process, free_port
from sweep import PLAIN, SCRIPT, found_in, listening, swept
from wire import Wire


async def test_no_value_of_a_call_comes_out() -> None:
    """Both eras, every tool, every end, with the fewest lines: nothing in output, refusals, metrics or traces."""
    await swept("error")


async def test_the_sweep_sees_a_leak() -> None:
    """Control: the same server without the walls leaks into output and traces, and the sweep finds it."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    with (
        collecting() as (endpoint, traces),
        Process(SCRIPT, CARELESS_CONTROL="1", PORT=str(port), OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as server,
    ):
        await listening(url)
        async with Wire(url, KEY) as wire:
            await wire.call("modern", "sweep_text", {"text": PLAIN})
            await wire.call("modern", PLAIN)
        server.stop()
    assert {PLAIN, PLAIN.upper(), PLAIN.encode().hex()} <= set(found_in("\n".join(server.lines)))
    assert PLAIN in found_in(b"\n".join(traces).decode(errors="replace"))
