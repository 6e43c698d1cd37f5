/** What an answer took, folded under its speed. */
import { el } from "../ui/dom.ts";
import { formatCount, formatRate, formatSeconds } from "../ui/format.ts";
import { counted, filled } from "../ui/strings.ts";
import type { Message } from "../ui/types.ts";
import { STRINGS } from "./strings.ts";

/** Null where nothing is known of it. */
export function answerStats({ stats, model }: Message): HTMLElement | null {
  if (!stats) return null;
  const { answerTokens, promptTokens, cachedTokens, firstTokenSeconds, totalSeconds } = stats;
  const cached = formatCount(cachedTokens);
  const prompt = counted(STRINGS.tokens, promptTokens);
  const [reading, writing] = [stats.prefillTokensPerSecond, stats.decodeTokensPerSecond].map(rate);
  const first = firstTokenSeconds === null ? null : formatSeconds(firstTokenSeconds);
  const short = [first && filled(STRINGS.toFirstToken, { time: first }), writing].filter((part) => part !== null);
  const answer = counted(STRINGS.tokens, answerTokens);
  const summary = el("summary", {}, short.join(" · ") || answer);
  summary.title = filled(STRINGS.promptCached, { cached, prompt });
  const rows: [string, string | null | undefined][] = [
    [STRINGS.statsModel, model],
    [STRINGS.statsPrompt, filled(STRINGS.promptOf, { cached, prompt })],
    [STRINGS.statsAnswer, answer],
    [STRINGS.statsReading, reading],
    [STRINGS.statsWriting, writing],
    [STRINGS.statsInAll, totalSeconds === null ? null : formatSeconds(totalSeconds)],
  ];
  const known = rows.filter(([, value]) => value !== null && value !== undefined);
  const list = el("dl", {}, ...known.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  return el("details", { class: "stats" }, summary, list);
}

function rate(perSecond: number | null): string | null {
  return perSecond ? filled(STRINGS.tokensPerSecond, { count: formatRate(perSecond) }) : null;
}
