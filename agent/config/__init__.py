"""
Configuration: one YAML file, flags and environment, read once and typed.

Flags win over the environment, the environment over the file, the file over the
defaults. `limits.drain_seconds` is `PODLOCK_LIMITS__DRAIN_SECONDS` in the environment
and `--set limits.drain_seconds=3` as a flag. An unknown key is an error, so a typing
mistake cannot pass for a setting. A relative path in the file starts at the file's own
directory, elsewhere at the current one.

    settings   what there is to set: frozen classes, defaults, units
    schema     what each key takes; from text to values
    sources    file, environment and flags; which wins, and what an error names
"""

from agent.config.settings import Config, ConfigError
from agent.config.sources import load, resolve

__all__ = ["Config", "ConfigError", "load", "resolve"]
