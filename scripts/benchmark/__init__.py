"""The benchmark behind `scripts/bench.py`: one module per measure, and what they share."""
