"""Everything the operator gets, through the tools that will read it."""
