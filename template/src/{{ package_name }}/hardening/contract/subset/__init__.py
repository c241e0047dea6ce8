"""Decides whether one JSON Schema accepts everything that another one accepts; used by the contract diff.

`subset` combines the rules, `leaf` and `container` hold them, `node` finds the parts of a schema.
"""

from __future__ import annotations

from .node import texts
from .proof import Difference, differences

__all__ = ["Difference", "differences", "texts"]
