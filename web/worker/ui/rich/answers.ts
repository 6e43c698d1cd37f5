/** How the chat page shows answers. */
import { MarkdownView } from "../markdown.ts";
import type { AnswerStrings } from "../strings.ts";
import type { TextViews } from "../text-view.ts";
import { copyFormulas } from "./copy.ts";
import { Diagrams } from "./diagrams.ts";
import { enrich } from "./enrich.ts";

export function richAnswers(strings: AnswerStrings): TextViews {
  document.addEventListener("copy", copyFormulas);
  const diagrams = new Diagrams(strings);
  return (target) => {
    const markdown = new MarkdownView(target, strings);
    return {
      update: (text, isComplete) => {
        markdown.update(text);
        enrich(target, isComplete, diagrams);
      },
    };
  };
}
