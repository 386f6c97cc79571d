"""The audio × caption matrix of negative log-likelihoods: plain reference, fast engine, search, store."""
