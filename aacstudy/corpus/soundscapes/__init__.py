"""The embedded corpus: synthetic scenes with known events, order and captions; no download."""
