"""`python -m tests.devices.sandboxed ...`: `python ...` under the unit's MemoryDenyWriteExecute=.

Kernels before 6.3 don't know the option: there it is plain `python ...`.
"""

import ctypes
import os
import sys

# Linux, include/uapi/linux/prctl.h; children inherit it.
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
