"""How much of a device the engine takes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """Threads for each phase, memory that is left to others in bytes, cores that stay free."""

    prefill_threads: int
    decode_threads: int
    memory_reserve_bytes: int
    cores_free: int
