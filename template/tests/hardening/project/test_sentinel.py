"""A value that a caller sends comes out nowhere but in the answer that the tool gives on purpose."""

from sweep import swept


async def test_no_value_of_a_call_comes_out() -> None:
    """Both eras, every tool, every end, with the most lines: nothing in output, refusals, metrics or traces."""
    await swept("debug")
