"""Speed, as ratios to the plain reference and to this machine's own matrix product: ``make bench``."""
