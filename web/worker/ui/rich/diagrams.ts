/** Shows Mermaid's diagrams as pictures. They are drawn in a frame that reaches neither this page nor the network. */
import type { DiagramRequest } from "../../diagram/frame.ts";
import { button, el } from "../dom.ts";
import type { AnswerStrings } from "../strings.ts";

/** Beside this script: the build fills it in. */
declare const DIAGRAM_FRAME: string;

const PATIENCE_MS = 15_000;
const MAX_SOURCE = 20_000;
const MAX_SVG = 2_000_000;

export class Diagrams {
  readonly #strings: AnswerStrings;
  /** One frame at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(strings: AnswerStrings) {
    this.#strings = strings;
    const redraw = (): void => {
      for (const code of document.querySelectorAll<HTMLElement>(".code.drawn code")) this.show(code, code.textContent);
    };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  show(code: HTMLElement, source: string): void {
    const frame = code.closest<HTMLElement>(".code");
    if (!frame || source.length > MAX_SOURCE) return;
    this.#turn = this.#turn.then(async () => {
      if (!code.isConnected || code.textContent !== source) return;
      // Half a character can't be in an address.
      const picture = await pictureOf(source, this.#strings.diagram).catch(() => null);
      if (code.textContent === source) this.#put(frame, picture);
    });
  }

  #put(frame: HTMLElement, picture: HTMLImageElement | null): void {
    frame.querySelector(":scope > img, .code-head > .failed")?.remove();
    const head = frame.querySelector(".code-head");
    if (!picture) {
      frame.classList.remove("drawn");
      head?.firstElementChild?.after(el("span", { class: "failed" }, this.#strings.notDrawn));
      return;
    }
    frame.append(picture);
    frame.classList.add("drawn");
    if (!head || head.querySelector("[data-source]")) return;
    const source = button({ text: this.#strings.source, className: "button quiet small" });
    source.dataset.source = "";
    source.setAttribute("aria-pressed", "false");
    source.addEventListener("click", () => {
      source.setAttribute("aria-pressed", String(frame.classList.toggle("source-shown")));
    });
    head.lastElementChild?.before(source);
  }
}

async function pictureOf(source: string, alt: string): Promise<HTMLImageElement | null> {
  const svg = await drawn({ source, dark: isDark() });
  if (typeof svg !== "string" || !svg.startsWith("<svg") || svg.length > MAX_SVG) return null;
  const [, width, height] = /viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"/.exec(svg) ?? [];
  if (!width || !height) return null;
  const picture = el("img", { alt, width: String(Math.ceil(Number(width))), height: String(Math.ceil(Number(height))) });
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  return picture.decode().then(
    () => picture,
    () => null,
  );
}

/** What the frame answers; null if it says nothing for too long. */
async function drawn(request: DiagramRequest): Promise<unknown> {
  const frame = el("iframe", { class: "diagram-frame", sandbox: "allow-scripts", "aria-hidden": "true", tabindex: "-1" });
  // Of hosts that don't set headers, isolated pages take no other frames.
  frame.setAttribute("credentialless", "");
  const page = new URL(DIAGRAM_FRAME, import.meta.url).href;
  // A frame doesn't tell that its page can't be had; it has no part in what is kept for use offline.
  await fetch(page, { method: "HEAD" });
  frame.src = page;
  const { port1, port2 } = new MessageChannel();
  try {
    return await new Promise((resolve) => {
      setTimeout(() => resolve(null), PATIENCE_MS);
      port1.onmessage = ({ data }) => resolve(data);
      frame.addEventListener("load", () => frame.contentWindow?.postMessage(request, "*", [port2]), { once: true });
      document.body.append(frame);
    });
  } finally {
    port1.close();
    frame.remove();
  }
}

function isDark(): boolean {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
