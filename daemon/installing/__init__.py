"""Installs the daemon as a service of its user, under systemd or launchd; the templates are in folders of these names.

The command line and `checks` import from here: `service_manager`, the interface that both managers implement, `plan`,
`program`, `service_environment` and `templates`. Only `cli/managed.py` imports `systemd` and `launchd`.
"""

from __future__ import annotations
