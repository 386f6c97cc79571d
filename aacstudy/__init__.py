"""Audio captioners as audio-text search engines: the helper package of the study's notebooks."""

__version__ = "0.1.0"
