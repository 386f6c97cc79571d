"""Audio-text retrieval from a matrix of scores: metrics, normalisations and hubness."""
