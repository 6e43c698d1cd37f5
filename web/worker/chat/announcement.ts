/** What people hear who can't see an answer. */
import { filled } from "../ui/strings.ts";
import type { Answering } from "./answering.ts";
import { STRINGS } from "./strings.ts";

/** In characters: nobody wants to hear a long answer without having asked for it. */
const MAX_ANNOUNCED = 1_500;

/** How an answer ended, or the answer: as it is `shown`; only what is new of one that went on. */
export function announcementOf({ answer, written, isContinued }: Answering, shown: string): string {
  const { problem, state } = answer;
  if (problem) return `${problem.message} ${problem.remedy}`;
  if (state === "abort") return STRINGS.stopped;
  const text = isContinued ? written : shown || written;
  const few = text.length > MAX_ANNOUNCED ? filled(STRINGS.andMore, { text: text.slice(0, MAX_ANNOUNCED) }) : text;
  return filled(STRINGS.answered, { text: few });
}
