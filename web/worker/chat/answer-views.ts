/** What shows answers: its script comes once the page is usable, and texts wait for it. */
import { el } from "../ui/dom.ts";
import { once } from "../ui/once.ts";
import type { AnswerStrings } from "../ui/strings.ts";
import type { TextView, TextViews } from "../ui/text-view.ts";

export function answerViews(strings: AnswerStrings): TextViews {
  let make: TextViews | null = null;
  const load = once(async () => {
    const { richAnswers } = await import("../ui/rich/answers.ts");
    return (make = richAnswers(strings));
  });
  const loaded = () => load().catch(() => asWritten);
  void loaded();
  return (target) => make?.(target) ?? new WaitingView(target, loaded());
}

class WaitingView implements TextView {
  #view: TextView | null = null;
  #shown: Parameters<TextView["update"]> = ["", false];

  constructor(target: HTMLElement, loading: Promise<TextViews>) {
    void loading.then((make) => {
      this.#view = make(target);
      this.#view.update(...this.#shown);
    });
  }

  update(text: string, isComplete: boolean): void {
    this.#shown = [text, isComplete];
    this.#view?.update(text, isComplete);
  }
}

/** Without the script: what the model wrote. */
function asWritten(target: HTMLElement): TextView {
  const source = el("div", { class: "source" });
  target.append(source);
  return { update: (text) => (source.textContent = text) };
}
