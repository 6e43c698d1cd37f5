/** WebLLM as its users call it, with the files of a bundle where they lie. */
import { CreateMLCEngine } from "@mlc-ai/web-llm";

globalThis.askWebLLM = async (bundle, request) => {
  // WebLLM wants an address like the Hub's and asks for files beside its end.
  const model = `${bundle}resolve/main/../../`;
  const record = { model_id: "bundle", model, model_lib: `${bundle}lib/webgpu-software-f32.wasm` };
  const engine = await CreateMLCEngine("bundle", { appConfig: { model_list: [record] } });
  const { choices } = await engine.chat.completions.create(request);
  return choices[0];
};
globalThis.ready = true;
