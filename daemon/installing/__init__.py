"""Installing the daemon as a service of its user, under systemd or launchd.

The command line imports `service_manager`, the interface that both implement, and `plan`, what to install.
"""

from __future__ import annotations
