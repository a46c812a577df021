"""Work on a data folder whose engine is stopped, and on stores that no engine knows yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from fabric.app.worlds import SampleWorld, settings_of
from fabric.core.config import Settings, StoreSettings
from fabric.core.errors import ConfigError, NotFoundError
from fabric.core.words import Mode
from fabric.security.audit import verify
