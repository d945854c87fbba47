"""The REST API: what the daemon knows and does, for programs."""
