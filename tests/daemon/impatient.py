"""`python -m tests.daemon.impatient -m mlc_edge ...`: the command, with a tenth of its patience."""

import sys

import edge.daemon.body
import edge.daemon.server
from edge.daemon.connection import Limits
from mlc_edge.cli import main

HEAD_S, IDLE_S, WRITE_S, FLUSH_S, SILENCE_S, BODY_S = 1, 3, 3, 12, 3, 4

if __name__ == "__main__":
    Limits.__init__.__kwdefaults__.update(
        head_s=HEAD_S, idle_s=IDLE_S, write_s=WRITE_S, flush_s=FLUSH_S
    )
    edge.daemon.body.SILENCE_S, edge.daemon.body.BODY_TIMEOUT_S = SILENCE_S, BODY_S
    # Else the kernel would end what the daemon doesn't.
    edge.daemon.server.UNACKNOWLEDGED_MS = 3_600_000
    del sys.argv[1:3]
    main()
