"""What holds for every test: hypothesis keeps no database in the checkout."""

from __future__ import annotations

from hypothesis import settings

# A database written by root would be unwritable for the next, plain user's run.
# No deadline: machines are noisy, and speed is measured by the benchmark.
settings.register_profile("podlock", database=None, deadline=None)
settings.load_profile("podlock")
