import { loadPyodide } from "https://cdn.jsdelivr.net/pyodide/v314.0.7/full/pyodide.mjs";

const output = document.querySelector("output");
const button = document.querySelector("#run");
const answer = document.querySelector("pre");
const show = (text) => (output.textContent = text);

const python = await loadPyodide();
await python.loadPackage(new URL("site/dist/mlc_edge_web-0.1.0-py3-none-any.whl", location.href).href);
python.globals.set("show", show);
const decoder = new TextDecoder();
python.setStdout({
  write(bytes) {
    answer.append(decoder.decode(bytes, { stream: true }));
    return bytes.length;
  },
});
show("Python is ready.");
button.disabled = false;

button.addEventListener("click", async () => {
  button.disabled = true;
  answer.textContent = "";
  try {
    await python.runPythonAsync(document.querySelector("#source").value);
  } catch (error) {
    answer.append(error.message);
  }
  button.disabled = false;
});
