"""What a running daemon tells others: log lines, its health for `status`, signs of life for its service manager.

The service and the command line import from here.
"""

from __future__ import annotations
