"""Off the serving path: writes, checks and compares schema/tools.json."""
