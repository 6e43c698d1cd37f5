"""A file mapped into memory, of which rows are copied out on demand."""

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_edge.errors import CheckpointError

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class MappedFile:
    """A plain file of `size` bytes; what was read once doesn't stay in this process's memory."""

    path: Path
    size: int
    _content: mmap.mmap

    @classmethod
    def open(cls, path: Path) -> "MappedFile":
        """Map a file; raises CheckpointError if it is empty or can't be read."""
        try:
            # A pipe would be waited for.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CheckpointError(
                f"{path} can't be read ({error.strerror}): name a GGUF file."
            ) from error
        try:
            content = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} is empty or no plain file: name a GGUF file.") from error
        finally:
            os.close(descriptor)
        return cls(path, len(content), content)

    def read(self, offset: int, count: int) -> bytes:
        """A copy of bytes that are inside of the file."""
        return self._content[offset : offset + count]

    def rows(self, offset: int, row_bytes: int, wanted: Bytes | npt.NDArray[np.intp]) -> Bytes:
        """Copies of the rows `wanted`, ascending or not, of those that begin at `offset`.

        uint8 [n, row_bytes]. Raises CheckpointError if the file was cut meanwhile.
        """
        first, last = int(wanted.min()), int(wanted.max())
        begin, end = offset + first * row_bytes, offset + (last + 1) * row_bytes
        # Touching what is mapped but no longer there would end the process.
        if self._content.size() < end:
            raise CheckpointError(f"{self.path} has become shorter: download the file again.")
        count = (last - first + 1) * row_bytes
        table = np.frombuffer(self._content, np.uint8, count, begin).reshape(-1, row_bytes)
        copied: Bytes = table[wanted - first]
        page = begin - begin % mmap.PAGESIZE
        self._content.madvise(mmap.MADV_DONTNEED, page, end - page)
        return copied
