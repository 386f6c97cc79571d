"""The networks: log-mel front-end, tagging encoder, captioning decoder, and their files."""
