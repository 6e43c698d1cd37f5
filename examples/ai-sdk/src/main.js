import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createEngine } from "@mlc-edge/web";
import { streamText } from "ai";

const form = document.querySelector("form");
const output = document.querySelector("output");
// What `mlc-edge site public/site` wrote.
const baseURL = `${import.meta.env.BASE_URL}site/`;

try {
  const engine = await createEngine({ baseURL });
  const provider = createOpenAICompatible({
    name: "mlc-edge",
    // Nothing is asked there: `engine.fetch` answers in the page.
    baseURL: "https://engine.local/v1",
    fetch: engine.fetch,
  });
  output.textContent = `${engine.model} is ready.`;
  form.querySelector("button").disabled = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void answer(provider(engine.model), new FormData(form).get("question"));
  });
} catch (error) {
  output.textContent = `${error.message} ${error.remedy ?? ""}`;
}
document.querySelector("progress").hidden = true;

async function answer(model, prompt) {
  output.textContent = "";
  const { textStream } = streamText({ model, prompt, temperature: 0 });
  for await (const text of textStream) output.append(text);
}
