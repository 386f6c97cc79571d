"""Training of the tagging encoder and of the captioner; both resume after a kill with the same
result."""
