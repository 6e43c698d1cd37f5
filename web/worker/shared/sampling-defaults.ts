/** How tokens are drawn where nobody says: as the model's files name it, else as a chat does. */

/** Fields of requests, with OpenAI's defaults: what is drawn is the model's own distribution. */
export const NEUTRAL = {
  temperature: 1,
  top_p: 1,
  top_k: 0,
  min_p: 0,
  presence_penalty: 0,
  frequency_penalty: 0,
  repetition_penalty: 1,
};

export type Sampling = Partial<Record<keyof typeof NEUTRAL, number>>;

/** For conversations: small models wander off where unlikely tokens are drawn as often as they are likely. */
const CHAT = { temperature: 0.7, top_p: 0.9, min_p: 0.05 };

type SamplingFile = { [Field in keyof Sampling]?: number | null };

/**
 * Fields of requests with what a bundle's files name for them: mlc-chat-config.json and
 * generation_config.json. MLC's file always has numbers: the neutral ones name nothing.
 */
export function namedSampling(
  chat: SamplingFile,
  generation: SamplingFile & { do_sample?: boolean },
): Sampling {
  const named: Sampling = {};
  for (const field of Object.keys(NEUTRAL) as (keyof Sampling)[]) {
    const given = chat[field] === NEUTRAL[field] ? undefined : chat[field];
    const value = generation[field] ?? given ?? undefined;
    if (value !== undefined) named[field] = value;
  }
  // Its author wants this model's likeliest answer, whatever temperature is noted beside.
  if (generation.do_sample === false) named.temperature = 0;
  return named;
}

/** Fields that a chat's requests have where its person sets none; none if the model's files do. */
export function chatSampling(named: Sampling): Sampling {
  return Object.keys(CHAT).some((field) => field in named) ? {} : CHAT;
}
