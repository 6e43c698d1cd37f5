import { createEngine } from "@mlc-edge/web";

const form = document.querySelector("form");
const output = document.querySelector("output");
const progress = document.querySelector("progress");
// What `mlc-edge site public/site` wrote.
const baseURL = `${import.meta.env.BASE_URL}site/`;

try {
  const engine = await createEngine({
    baseURL,
    onProgress({ loadedBytes, totalBytes }) {
      if (totalBytes) progress.value = loadedBytes / totalBytes;
    },
  });
  output.textContent = `${engine.model} is ready.`;
  form.querySelector("button").disabled = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void answer(engine, new FormData(form).get("question"));
  });
} catch (error) {
  output.textContent = `${error.message} ${error.remedy ?? ""}`;
}
progress.hidden = true;

async function answer(engine, content) {
  output.textContent = "";
  const messages = [{ role: "user", content }];
  for await (const chunk of await engine.chat.completions.create({ messages, stream: true, temperature: 0 })) {
    output.append(chunk.choices[0]?.delta.content ?? "");
  }
}
