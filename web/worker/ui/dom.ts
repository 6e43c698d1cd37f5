/** Small ways to make and find elements; no text ever becomes markup here. */
import { ICONS, type IconName } from "./icons.ts";

/** What ids are unique in: the page, or the inside of an element of its own. */
export type Root = Document | ShadowRoot;

type Child = Node | string | null | undefined;

interface ButtonOptions {
  text?: string;
  /** Accessible name where the text alone doesn't say it. */
  label?: string;
  icon?: IconName;
  className?: string;
  onClick?: (event: MouseEvent) => void;
}

/** The element with this id, which the root must have. */
export function byId<T extends HTMLElement>(id: string, type: new () => T, root: Root = document): T {
  const element = root.getElementById(id);
  if (!(element instanceof type)) throw new Error(`there is no ${type.name} #${id}`);
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

/** Whether a key belongs to an input method, such as the Enter that confirms a conversion and the Escape that cancels it. */
export function isComposing(event: KeyboardEvent): boolean {
  // Safari ends a composition before the key that confirms it; 229 is how UI Events marks it all the same.
  return event.isComposing || event.keyCode === 229;
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon, hidden from assistive technology. */
export function icon(name: IconName): SVGSVGElement {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  draw(svg, name);
  return svg;
}

/** Draws what markup leaves open: `<svg data-icon="NAME">`. */
export function drawIcons(root: Root): void {
  for (const svg of root.querySelectorAll<SVGSVGElement>("svg[data-icon]")) {
    draw(svg, svg.dataset.icon as IconName);
  }
}

function draw(svg: SVGSVGElement, name: IconName): void {
  svg.setAttribute("viewBox", "0 0 24 24");
  for (const [tag, attributes] of ICONS[name]) {
    const shape = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  }
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
