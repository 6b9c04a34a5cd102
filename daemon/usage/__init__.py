"""What sessions cost, what failed and what took long: questions to the local file, and prices.

`daemon.cli` and the page ask them. Other wings import only `prices`.
"""

from __future__ import annotations
