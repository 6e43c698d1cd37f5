/** Small ways to make and find elements; no text ever becomes markup here. */

type Child = Node | string | null | undefined;

interface ButtonOptions {
  text?: string;
  /** Accessible name where the text alone doesn't say it. */
  label?: string;
  icon?: string;
  className?: string;
  onClick?: (event: MouseEvent) => void;
}

/** The element with this id, which the page must have. */
export function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const element = document.getElementById(id);
  if (!(element instanceof type)) throw new Error(`the page has no ${type.name} #${id}`);
  return element;
}

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the page's icons, hidden from assistive technology. */
export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

export function button(options: ButtonOptions): HTMLButtonElement {
  const element = el("button", { type: "button", class: options.className ?? "button" });
  if (options.icon) element.append(icon(options.icon));
  if (options.text) element.append(options.text);
  if (options.label) {
    element.setAttribute("aria-label", options.label);
    if (!options.text) element.title = options.label;
  }
  if (options.onClick) element.addEventListener("click", options.onClick);
  return element;
}
