"""The local file: events in SQLite on this machine, with a row for each call and an index of words.

Other wings import `sink`, which writes it, `events`, which reads bodies, `text_index`, which completes the index of
words, and `schema` and `call` for its rows.
"""

from __future__ import annotations
