"""Log records without arguments of a call, written without waiting."""
