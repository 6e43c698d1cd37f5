"""Counter-based random numbers: no state, so an answer's draws don't depend on what ran before."""

MASK = 0xFFFFFFFF
MULTIPLIER_A, MULTIPLIER_B = 0xD2511F53, 0xCD9E8D57
WEYL_A, WEYL_B = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10

Words = tuple[int, int, int, int]


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Philox4x32-10 (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405)."""
    a, b, c, d = counter
    key_a, key_b = key
    for _ in range(ROUNDS):
        product_a, product_b = MULTIPLIER_A * a, MULTIPLIER_B * c
        a, b = (product_b >> 32) ^ b ^ key_a, product_b & MASK
        c, d = (product_a >> 32) ^ d ^ key_b, product_a & MASK
        key_a, key_b = (key_a + WEYL_A) & MASK, (key_b + WEYL_B) & MASK
    return a, b, c, d


def uniform(seed: int, choice: int, position: int) -> float:
    """The number in [0, 1) that draws token `position` (0 is the answer's first) of `choice`.

    Philox4x32-10 with key (low, high 32 bits of the seed's two's complement) and counter
    (position, choice, 0, 0); the number is its first word / 2^32.
    """
    words = philox((position & MASK, choice & MASK, 0, 0), (seed & MASK, (seed >> 32) & MASK))
    return words[0] / 2**32
