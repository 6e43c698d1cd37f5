/** The settings of cases in sampling.json. */
import { parseRequest, type SamplingSettings } from "../../web/worker/engine/request.ts";

const defaults = {
  temperature: 1,
  topP: 1,
  topK: null,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
};
const model = { id: "golden", vocabSize: 200000, defaults };
const messages = [{ role: "user" as const, content: "" }];

/** What a request with these fields asks of a sampler. */
export function samplingOf(fields: object): SamplingSettings {
  return parseRequest({ messages, ...fields }, model).sampling;
}
