"""Metrics, logs, history and status: they listen to sweeps and decide nothing."""
