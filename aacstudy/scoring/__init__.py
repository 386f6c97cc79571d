"""The audio × caption matrix of losses: plain reference, fast engine, files."""
