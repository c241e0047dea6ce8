"""Whether one JSON Schema accepts all that another one accepts: the proof behind the contract diff.

`subset` combines the rules, `leaf` and `container` hold them, `node` finds the parts of a schema.
"""

from __future__ import annotations

from .node import texts
from .proof import Difference, differences

__all__ = ["Difference", "differences", "texts"]
