"""`python -m tests.support.s3_server`: an S3 on loopback, in memory. Prints its port, and serves until it is killed."""

from __future__ import annotations

import importlib
import sys
import threading
from contextlib import redirect_stdout
from typing import Any

if __name__ == "__main__":
    server: Any = importlib.import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    with redirect_stdout(sys.stderr):
        server.start()
    sys.stdout.write(f"{server.get_host_and_port()[1]}\n")
    sys.stdout.flush()
    threading.Event().wait()
