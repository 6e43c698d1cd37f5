"""What attention and rotary embedding share: the shape of heads, and arguments inside larger tensors."""

from dataclasses import dataclass

from tvm import tirx

from webbuild.kernels.program import argument, size


@dataclass(frozen=True)
class HeadShape:
    """Query heads, heads of keys and values, and features of a head."""

    heads: int
    kv_heads: int
    width: int

    @property
    def group(self) -> int:
        """Query heads that share a head of keys and values."""
        return self.heads // self.kv_heads


def offset_argument(name: str, length: tirx.Expr) -> tirx.Buffer:
    """The program's next argument, int32 [length] somewhere inside a larger tensor."""
    return argument(name, (length,), "int32", elem_offset=size(f"{name}_offset", "int32"))
