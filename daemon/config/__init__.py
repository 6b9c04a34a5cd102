"""What the user and a session's project have set: read, checked and explained.

Other wings import `settings` (the values), `loading` (reading them), `table` (their declarations), `patterns` and what
holds for one project (`project_settings`, `restraint`).
"""

from __future__ import annotations
