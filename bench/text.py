"""What `docs/performance.md` says around its tables."""

HEAD = """# Performance

A server from this template against the bare SDK, as a newcomer starts it, and against other servers.
This page is written by `make bench`; each table was measured in one go, all of them on one machine: {machine}; {versions}.

Only the ratios mean something: every server runs at the same time, is asked in turn, and the ratio is taken within each round.
The load comes from wrk on the same two cores, so requests per second and latencies also depend on what the client takes.
CPU per request is the steadier number.

![Calls per second of each server, in both eras, as ratios to the bare SDK](performance.svg)

- **bare**: `MCPServer(...).streamable_http_app()` under `uvicorn.run`, with what comes when nothing but `mcp` is installed.
- **render**: a project from this template as `serve` starts it, every protection on, logging to a file.
  The limits by caller are raised, because one load client is one caller; everything else is default.
- **render without protections**: the same, without every guard that does not read the message, without limits of tools and deadlines.
  There is no setting for this; the benchmark takes them out of the running program.
- **raw**: a constant answer on uvicorn with uvloop and httptools: what the HTTP server alone can do.
- **fastmcp**, **typescript v1**, **typescript v2**: the same tool, as the documentation of each shows it.

Nothing else ran on the machine, but it is a shared one: from run to run single numbers differ by a tenth and more.
The servers of TypeScript are hit hardest by a load on the same two cores: with another client, v2 was measured at 1.3 to 2.2 × bare.
Whoever has to choose by speed measures on a machine of their own.

All calls go over 32 connections to a tool that gives a short text back.
"""

REASONS = """
What makes the difference, in order of worth:

- A request that stands alone is answered as plain JSON in the task that uvicorn has made for it (`protocol/stateless.py`, `protocol/response_writer.py`).
  The SDK's transports prepare an event stream, tasks and queues for each request, which costs more than the call.
  An answer becomes a stream with its first notification, or when it has been silent for `MCP_STREAM_PING_SECONDS`.
- uvloop and httptools instead of asyncio and h11.
- A listing is serialised once for each version of the protocol (`protocol/list_cache.py`).
- Python's collector of garbage does not look at what the start has made, and looks less often at calls.
- Spans are made only when somebody has asked for them.
- What a client says of itself, and who a principal is to the SDK, is validated once for each that is new.

What stands in the way of the goals that are not reached, by a profile (`py-spy`) of modern calls:

- Of a modern call, two fifths of the time on the server are spent in the SDK's `serve_one` and what it calls.
  Two thirds of that is the SDK itself: it validates a request three times (its `_meta`, its version's schema, its parameters),
  and an answer once after writing it (`_serialize`), makes a Pydantic model of the call's context, and opens and closes an exit stack under a shielded deadline.
  None of it can be left out through public names.
- Another sixth is uvicorn's: sending head and body, and checking every header by two regular expressions.
- The guards take a sixth and the log line a tenth. Each is a few microseconds of Python; there is no single one that stands out, see the last tables.
  How much all protections together cost varies between 2 % and 14 % of a call that does nothing, from run to run and between the eras; the table of goals has the worst.
- A session that is idle holds the context of the task that serves it, and with it what log lines need to know of the request that opened it.
- Nine tenths of a start are the import of the SDK, which loads its client, its authorization and the models of three protocol versions, whatever is used.
  This is all there is to it: `python -X importtime -c "import mcp"`.
"""

NOTES = {
    "start": """
From the start of the process to the first answered `tools/list`, with bytecode written already.
The bare server has no settings to read, no log to open and no metrics.
""",
    "sessions": """
1,000 sessions that are open and idle, with `MCP_LEGACY=stateful`; the default keeps none.
They are bounded by `MCP_MAX_SESSIONS`, and for each caller.
""",
    "replicas": """
Two processes against one, the load split evenly and on the same two cores as both servers and two load clients.
There is no third core for the load here, so from run to run this varies between 1.1 and 2; replicas share nothing on the path of a call but Redis, if it is set.
""",
    "guards": """
CPU of a modern call with one protection taken out, against the whole.
The noise of such a small difference is about as large as the difference: a negative number means nothing.
""",
    "steps": """
With uv's cache warm, on the same machine.
`copier copy` is a process of its own and contains the import of Copier; it adds more than twice as much again, most of it for rendering some two hundred files.
""",
}
