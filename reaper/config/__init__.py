"""The configuration: flags, environment, file and credentials become one frozen value, or one complete refusal.

The only reader of the environment. Precedence is flag, environment, credential, file, default; for thresholds
the more specific place comes first: a kind in a source, a kind, a source, everything.
"""

from reaper.config.database_url import database_location
from reaper.config.load import load
from reaper.config.settings import Settings, SourceSettings

__all__ = ["Settings", "SourceSettings", "database_location", "load"]
