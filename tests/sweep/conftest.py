"""A source whose sweeps look for late signs of life."""

from __future__ import annotations

import pytest

from tests.support.late_sign_sweeps import Sweeps
from tests.support.protea import Protea


@pytest.fixture
def sweeps(protea: Protea) -> Sweeps:
    return Sweeps(protea.source())
