"""When sources are swept and purged."""
