/** Clients of OpenAI's API as npm has them, for a page. */
export { createOpenAICompatible } from "@ai-sdk/openai-compatible";
export { generateText, streamText } from "ai";
export { default as OpenAI } from "openai";
