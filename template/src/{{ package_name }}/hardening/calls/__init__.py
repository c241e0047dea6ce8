"""One call of the author's function: declared, checked, run to its deadline, its failure typed."""
