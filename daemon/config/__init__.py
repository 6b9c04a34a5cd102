"""Configuration: the user's settings, the settings of a session's project, and config.toml itself.

Other wings import `settings` (the values), `loading` (reads them), `table` (declares them), `parsers`, `patterns`,
`file` (changes config.toml), `schema`, `claude_settings`, and `project_settings` with `restraint` (one project's
settings).
"""

from __future__ import annotations
