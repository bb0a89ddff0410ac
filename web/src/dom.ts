// Making elements. Texts only ever become text nodes.

import { fill } from "./colour";

type Child = Node | string | null | undefined | false;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string | boolean | ((event: never) => void)> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value as EventListener);
    else if (typeof value === "string") element.setAttribute(name, value);
    else if (value) element.setAttribute(name, "");
  }
  for (const child of children) if (child || child === "") element.append(child);
  return element;
}

/** A box that is a share of its place wide. */
export function bar(share: number): HTMLElement {
  const inner = el("span", { class: "bar-fill" });
  inner.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return el("span", { class: "bar" }, inner);
}

/** Puts a popover below (or above, or left of) a point so that it stays on the page. */
export function place(popover: HTMLElement, x: number, y: number): void {
  popover.style.left = "0px";
  popover.style.top = "0px";
  const { width, height } = popover.getBoundingClientRect();
  popover.style.left = `${Math.max(6, Math.min(x, innerWidth - width - 6))}px`;
  popover.style.top = `${y + height + 6 > innerHeight && y - height - 24 > 0 ? y - height - 24 : Math.min(y, Math.max(6, innerHeight - height - 6))}px`;
}

/** A small square in the colour of a kind. */
export function swatch(kind: string, dark: boolean): HTMLElement {
  const square = el("i", { class: "swatch" });
  square.style.background = fill(kind, 1, dark);
  return square;
}
