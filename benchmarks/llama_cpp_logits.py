"""Run with the interpreter that has llama-cpp-python: quantises a GGUF file, computes its logits, times it.

Arguments: a GGUF file, llama.cpp's number of a file type, windows of token ids (.npy, int [n, length]), and
where the logits go (.npy, float32 [n, length, vocabulary]). Prints one line of JSON. llama.cpp's own threads.
"""

import ctypes
import json
import sys
import tempfile
import time
from pathlib import Path

import llama_cpp
import numpy as np

THREADS = 2
DECODED = 32


def quantize(file: str, file_type: int, output: str) -> None:
    """Write the model anew."""
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype, options.allow_requantize, options.nthread = file_type, True, THREADS
    failed = llama_cpp.llama_model_quantize(file.encode(), output.encode(), ctypes.byref(options))
    assert failed == 0, failed


def main() -> None:
    """The command."""
    source, file_type, windows, output = sys.argv[1:]
    tokens = np.load(windows)
    with tempfile.TemporaryDirectory() as folder:
        model_file = str(Path(folder, "model.gguf"))
        quantize(source, int(file_type), model_file)
        model = llama_cpp.Llama(
            model_file,
            n_ctx=tokens.shape[1] + DECODED,
            n_threads=THREADS,
            logits_all=True,
            verbose=False,
        )
        logits = np.empty((*tokens.shape, model.n_vocab()), np.float32)
        for row, found in zip(tokens, logits, strict=True):
            model.reset()
            model.eval(row.tolist())
            found[:] = model.scores[: len(row)]
        np.save(output, logits)
        seconds = []
        model.reset()
        model.eval(tokens[0, :128].tolist())
        for _ in range(DECODED):
            started = time.perf_counter()
            model.eval([5])
            seconds.append(time.perf_counter() - started)
        size = Path(model_file).stat().st_size
    print(json.dumps({"bytes": size, "decode_s": float(np.median(seconds))}))


if __name__ == "__main__":
    main()
