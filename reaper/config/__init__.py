"""The configuration: flags, environment, credentials and file become one frozen `Settings`, or one ConfigError.

The environment is read here alone. Precedence is flag, environment, credential, file, default. A threshold of a more
specific place has precedence: a kind in a source, a kind, a source, all sources.
"""

from reaper.config.load import load, load_database
from reaper.config.settings import DatabaseSettings, Settings, SourceSettings
from reaper.config.urls import database_location

__all__ = ["DatabaseSettings", "Settings", "SourceSettings", "database_location", "load", "load_database"]
