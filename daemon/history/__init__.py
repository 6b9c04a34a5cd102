"""Sessions that existed before the daemon.

What to do with them at the first start, how to send them on request, and when to forget them. The service and the
command line import from here.
"""

from __future__ import annotations
