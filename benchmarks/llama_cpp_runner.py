"""Run with the interpreter that has llama-cpp-python: times it, one line of JSON a command.

Reads commands from stdin, {"kind": "prefill" | "decode", "tokens": n}, and answers with seconds. While it
waits, its threads sleep.
"""

import ctypes
import json
import sys
import time

import gguf
import llama_cpp
import numpy as np

BLOCK = 32
BLOCK_BYTES = 18


def write_model(path: str, shape: dict[str, int], context: int) -> None:
    """A Llama with random Q4_0 matrices, embeddings and output included."""
    writer = gguf.GGUFWriter(path, "llama")
    width, heads = shape["hidden_size"], shape["num_attention_heads"]
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(shape["num_hidden_layers"])
    writer.add_feed_forward_length(shape["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(shape["num_key_value_heads"])
    writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_key_length(shape["head_dim"])
    writer.add_value_length(shape["head_dim"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    _add_vocabulary(writer, shape["vocab_size"])
    random = np.random.default_rng(0)
    norm = np.ones(width, np.float32)

    def matrix(name: str, rows: int, columns: int) -> None:
        blocks = random.integers(0, 256, (rows, columns // BLOCK, BLOCK_BYTES), np.uint8)
        # The scale of each block, float16 0.01, keeps values finite.
        blocks[:, :, :2] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
        kind = gguf.GGMLQuantizationType.Q4_0
        writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=kind)

    queries = heads * shape["head_dim"]
    keys = shape["num_key_value_heads"] * shape["head_dim"]
    inner = shape["intermediate_size"]
    matrix("token_embd.weight", shape["vocab_size"], width)
    matrix("output.weight", shape["vocab_size"], width)
    writer.add_tensor("output_norm.weight", norm)
    for layer in range(shape["num_hidden_layers"]):
        prefix = f"blk.{layer}."
        for name, rows, columns in (
            ("attn_q", queries, width),
            ("attn_k", keys, width),
            ("attn_v", keys, width),
            ("attn_output", width, queries),
            ("ffn_gate", inner, width),
            ("ffn_up", inner, width),
            ("ffn_down", width, inner),
        ):
            matrix(f"{prefix}{name}.weight", rows, columns)
        writer.add_tensor(f"{prefix}attn_norm.weight", norm)
        writer.add_tensor(f"{prefix}ffn_norm.weight", norm)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    special = ["<unk>", "<s>", "</s>"]
    tokens = [*special, *(f"t{index}" for index in range(size - len(special)))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([2, 3, 3, *([1] * (size - 3))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


class Peer:
    """A loaded model."""

    def __init__(self, path: str, threads: int, context: int) -> None:
        self._llama = llama_cpp.Llama(
            path,
            n_ctx=context,
            n_batch=512,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
            logits_all=False,
        )
        self._random = np.random.default_rng(1)
        self._vocabulary = self._llama.n_vocab()

    def prefill(self, tokens: int) -> float:
        """Seconds for a prompt of random tokens in an empty cache."""
        ids = self._random.integers(3, self._vocabulary, tokens).tolist()
        self._llama.reset()
        started = time.perf_counter()
        self._llama.eval(ids)
        return time.perf_counter() - started

    def decode(self, tokens: int) -> float:
        """Seconds for each of `tokens` steps after a prompt of 128, the median."""
        self.prefill(128)
        seconds = []
        for _ in range(tokens):
            started = time.perf_counter()
            self._llama.eval([5])
            seconds.append(time.perf_counter() - started)
        return float(np.median(seconds))


def main() -> None:
    """Serve commands until stdin ends."""
    path, threads, context, shape = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    write_model(path, json.loads(shape), context)
    peer = Peer(path, threads, context)
    info = ctypes.cast(llama_cpp.llama_print_system_info(), ctypes.c_char_p).value or b""
    facts = {"version": llama_cpp.__version__, "build": info.decode().strip()}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(peer, command["kind"])(command["tokens"])), flush=True)


if __name__ == "__main__":
    main()
