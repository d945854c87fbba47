"""What operators ask for, beside the sweeps: the same for the command line, HTTP and Celery tasks."""
