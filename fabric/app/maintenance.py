"""Work on a data folder whose engine is stopped, and on stores that no engine knows yet."""

from __future__ import annotations

