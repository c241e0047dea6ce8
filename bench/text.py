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
- A listing and a discovery are made once for each version of the protocol (`protocol/list_cache.py`).
- Python's collector of garbage does not look at what the start has made, and looks less often at calls.
- Spans are made only when somebody has asked for them.
- What a client says of itself, and who a principal is to the SDK, is validated once for each that is new.
- A call, a list of tools and a discovery leave out what the SDK's `serve_one` does over again (`protocol/direct_calls.py`): three validations of a request and two of a result, an exit stack under a shielded deadline, a copy of the server's name.
  The SDK's middleware and handler run as ever; a differential test holds the answers to the SDK's, and `MCP_DIRECT_CALLS=off` goes back. With it, a modern call costs a fifth less CPU and a legacy one a seventh.

What stands in the way of the goals that are not reached, by a profile (cProfile, calls in one process without HTTP):

- A seventh of a modern call is what is left of the SDK: its middleware, a connection, a session, and a context for each call, which is a Pydantic model.
- A sixth goes to the message: it is parsed, its shape, depth and `_meta` are checked, headers are compared with it, and its strings are gathered for the log.
- An eighth is the log line: made from an allow-list, with the caller's strings looked for in it.
- The guards take a sixth, a dozen of them with two to five microseconds each; none stands out.
  That is a larger part than before because all around them has become cheaper: 5 % of a call that does nothing are no more than twelve microseconds.
- The call itself takes a fifth: a task of its own, so that its end can be forced, a deadline, and arguments and results that are validated by schema.
- uvicorn and the kernel come on top, and are the same for everybody.
- A session that is idle holds the context of the task that serves it, and with it what log lines need to know of the request that opened it.
- Nine tenths of a start are the import of the SDK, which loads its client, its authorization and the models of three protocol versions, whatever is used.
  This is all there is to it: `python -X importtime -c "import mcp"`. What comes beyond it, settings, log, metrics and uvloop, is won back by keeping the collector of garbage off until everything is loaded.
- Copier starts a git process for each file that it writes, to keep executable bits, and compiles some fifteen Jinja templates for each: one for every part of its path, and seven times the name of the answers file.
  Questions and their validators take a fortieth of the time. A template can only have fewer files.
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
CPU of a call that does nothing, whole and with all protections taken out, in turn; the ratio is taken within each round.
""",
    "steps": """
With uv's cache warm, on the same machine.
`copier copy` is a process of its own and contains the import of Copier; most of it goes by the number of files.
""",
}

GROWTH = "## Cost as work grows\n"
GROWTH_HEAD = """
Written by `python bench/growth.py --write`: a second of calls for each point, in turn, the middle one of several rounds.
Modern calls over 32 connections where nothing else is said. CPU is that of all servers, for each request.

![Requests per second and CPU a request, as the work grows](growth.svg)
"""
GROWTH_NOTES = {
    "tools, a call": """
Does not bend: a tool is found by its name. Memory grows with the number, by schema and validator of each.
""",
    "tools, a listing": """
Does not bend on the server, where an answer is encoded once for each version of the protocol, so 500 tools cost a fifth more than one, not 500 times.
A model that reads them all is another matter.
""",
    "callers": """
Does not bend: a caller is one entry in a table of limits. Up to `MCP_RATE_MAX_KEYS` of them are kept apart (65,536); beyond, new ones share one bucket.
The signature of a token is checked with each request, which makes these calls dearer than those with a key.
""",
    "processes": """
Bends at the number of cores, of which the load takes its part here. Processes share nothing on the path of a call but Redis, if it is set; their memory adds up.
""",
    "bytes": """
Bends between 10 KB and 100 KB: below it a call has a fixed price, above it each byte has one.
A text is encoded, read back by its schema, and sent twice, as text and as structured content, as the specification wants it.
`MCP_MAX_RESPONSE_BYTES` is the end of it.
""",
    "held": """
Bends at `MCP_POOL_MAX_SIZE`, 10: more calls at once do not make it faster, they wait, each in its turn, so that p50 grows with their number.
Who waits longer than `MCP_POOL_ACQUIRE_TIMEOUT_SECONDS` is told that the server is busy, and beyond `MCP_MAX_IN_FLIGHT` requests are refused with 503.
""",
}
