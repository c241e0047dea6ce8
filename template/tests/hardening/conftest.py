"""Fixtures of the tests below."""

from fixtures import probe, server, wire

__all__ = ["probe", "server", "wire"]
