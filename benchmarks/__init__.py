"""Speed, as ratios to the plain reference and to this machine's matrix product: ``make bench``."""
