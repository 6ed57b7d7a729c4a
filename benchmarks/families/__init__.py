"""The parity matrix: what `benchmarks/models.py` measures for each model family."""
