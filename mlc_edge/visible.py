"""Text that nobody here wrote, for a terminal that obeys control characters."""

# As cat(1) and less(1) show them. Of the rest, C1 has the control sequence introducer, and bidirectional
# overrides and isolates put text in another order than it has: Unicode Technical Report 36, section 2.10.
_CARET = (*(code for code in range(0x20) if chr(code) not in "\n\t"), 0x7F)
_NUMBERED = (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = {code: f"^{chr(code ^ 0x40)}" for code in _CARET} | {
    code: f"<U+{code:04X}>" for code in _NUMBERED
}


def visible(text: str) -> str:
    """`text` with its control characters as people see them; line ends and tabs stay.

    Character by character: a stream may be cut anywhere.
    """
    return text.translate(_SHOWN)
