"""What a running daemon tells others: log lines, its health for `status`, notifications to its service manager.

The service and the command line import from here, and they may import every module.
"""

from __future__ import annotations
