"""The statements of one source in the order of a sweep, written out for a database administrator.

No database is asked: moments that a sweep takes from the database's clock are spelled as their distance from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from reaper.duration import in_words
from reaper.hearing import LONG_AGO, Contact, Hearing
from reaper.model import Thresholds, Verdict
from reaper.profile import Profile
from reaper.rule import Moment, Rule
from reaper.schema import Schema, key_parameters
from reaper.source.claim import Claim, Stamp
from reaper.source.holders import MEMBERS, WHO, marked
from reaper.source.lease import TAKE
from reaper.source.reading import Reading
from reaper.source.session import BEGIN, LOOK
from reaper.source.survey import Survey
