"""As many file descriptors as the system allows: five a pod, two a connection."""

from __future__ import annotations

import resource


def allow_descriptors() -> None:
    """Raise the soft limit of this process to the hard one (getrlimit(2))."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
