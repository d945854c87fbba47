"""What people and the calendar do, beside the sweeps: the same for the command line, for HTTP and for Celery."""
