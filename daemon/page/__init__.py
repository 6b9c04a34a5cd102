"""The page that `view` serves: sessions, what they cost and what they do, in a browser on this machine.

It needs the extra `view`. `daemon.cli.view` starts it; other wings import nothing from here. What it shows comes from
logs and is hostile: templates escape it, and the browser is told to run nothing but the page's own files.
"""

from __future__ import annotations
