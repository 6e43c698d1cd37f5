"""What models write in the states that are looked at."""

PROSE = """Here is what you can do about it:

1. Open the **settings** and look for *Export*.
2. Choose a format:
   - JSON keeps everything,
   - Markdown is what people read.
3. Save the file with `Ctrl+S`.

> Nothing leaves this device meanwhile.

## Afterwards

See [the manual](https://example.com/manual), which says more.

---

That is all.
"""
TABLE = """Compared with each other:

| Format | What it keeps | Size of a conversation of a hundred messages | Who reads it |
|--------|:-------------:|---------------------------------------------:|--------------|
| JSON | every branch, all settings and the speeds that were measured | 120 kB | mlc-edge and programs |
| Markdown | what is shown | 80 kB | people and everything that knows Markdown |
"""
CODE = """Like this:

```python
def quantise(weights, group_size=32, levels=16, offset=7):
    scales = abs(weights).reshape(-1, group_size).max(axis=1) / offset  # one for each group of weights
    return (weights.reshape(-1, group_size) / scales[:, None]).round().clip(-offset, levels - offset - 1)
```

and `quantise(weights)` gives the levels.
"""
FORMULAS = r"""The solutions of $ax^2 + bx + c = 0$ are

$$x_{1,2} = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}$$

and \(\sum_{k=1}^n k = \frac{n(n+1)}{2}\). A wide one:

\[\left(\sum_{k=1}^n a_k b_k\right)^2 \le \left(\sum_{k=1}^n a_k^2\right)\left(\sum_{k=1}^n b_k^2\right)
\quad \text{for all real } a_k, b_k\]
"""
DIAGRAM = """Like this:

```mermaid
flowchart LR
  A[You ask] --> B{Is the model loaded?}
  B -->|yes| C(It answers)
  B -->|no| D(It loads first)
```

That is all.
"""
DATA = """<tool_call>
{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}
</tool_call>

The cities:

```json
{"cities": [{"name": "Paris", "size": 2.1}, {"name": "Rome", "size": 2.8}]}
```
"""
THOUGHT = (
    "<think>\nThey want a *file*. The **menu** has it.\n</think>\n\nOpen the menu of the chat."
)
RIGHT_TO_LEFT = "مرحبًا! افتح **الإعدادات**، ثم اختر `Export`:\n\n1. أولاً\n2. ثانيًا\n\n> اقتباس\n"
