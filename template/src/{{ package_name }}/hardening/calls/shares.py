"""Slots with a bound in total and a share for each caller; a full share is `busy`, and no other caller notices."""

from __future__ import annotations

from collections import Counter

from ..exchange import current


def current_caller() -> str:
    """Return the identity of who is calling; empty where nobody is, as in a test."""
    exchange = current.get()
    return exchange.principal.id if exchange is not None and exchange.principal is not None else ""


class Shares:
    """Counts what is taken.

    Args:
        most: Slots in total.
        most_per_caller: Slots of one caller, at most `most`.
    """

    def __init__(self, most: int, most_per_caller: int) -> None:
        self.most = most
        self.most_per_caller = min(most, most_per_caller)
        self.total = 0
        self._by_caller: Counter[str] = Counter()

    def take(self, caller: str) -> bool:
        """Take a slot; return False when there is none for this caller."""
        if self.total >= self.most or self._by_caller[caller] >= self.most_per_caller:
            return False
        self.total += 1
        self._by_caller[caller] += 1
        return True

    def give_back(self, caller: str) -> None:
        """Return a slot that was taken."""
        self.total -= 1
        self._by_caller[caller] -= 1
        if not self._by_caller[caller]:
            del self._by_caller[caller]
