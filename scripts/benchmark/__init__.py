"""The numbers that the reaper holds, measured. `scripts/bench.py` is the command; one module here for each measure."""
