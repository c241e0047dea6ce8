"""Write the page that says which test notices when a protection is missing, from the catalogue of mutants."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from proving.mutants import PAGE, page, read  # noqa: E402 - found through the line above

if __name__ == "__main__":
    (ROOT / PAGE).write_text(page(read()), "utf-8")
