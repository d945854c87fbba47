"""`python -m reaper` is `reaper`."""

from reaper.cli import main

if __name__ == "__main__":
    main()
