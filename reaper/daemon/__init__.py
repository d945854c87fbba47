"""The daemon: start, reload, signals, systemd and shutdown."""
