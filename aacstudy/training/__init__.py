"""Training of encoder and captioner; both resume after a kill with the same result."""
