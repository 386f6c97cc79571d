"""The audio × caption matrix of negative log-likelihoods: plain reference, batched path, store."""
