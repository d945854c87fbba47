"""Helpers of all layers: durations, sentences about jobs, JSON values, suggestions, the terminal."""
