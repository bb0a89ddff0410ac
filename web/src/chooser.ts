// The choosers of processes and threads: a button that opens a list with shares and a filter.

import { bar, el, place } from "./dom";
import { count, share, shown } from "./text";

export interface Choice {
  /** What the state holds for it. */
  key: string;
  name: string;
  detail: string;
  weight: number;
  /** It belongs to the group above it. */
  indent: boolean;
}

/** Entries drawn at most; a filter finds the others. */
const MAX_SHOWN = 400;

export class Chooser {
  readonly button: HTMLButtonElement;
  private readonly list = el("div", { class: "choices", role: "listbox" });
  private readonly filter: HTMLInputElement;
  private readonly popover: HTMLElement;
  private choices: Choice[] = [];
  private whole = 0;
  private chosen = "";

  constructor(
    private readonly noun: string,
    private readonly load: () => { choices: Choice[]; whole: number },
    private readonly choose: (key: string) => void,
  ) {
    this.button = el("button", { class: "chooser", "aria-haspopup": "listbox", click: () => this.open() });
    this.filter = el("input", {
      type: "search", placeholder: "Filter",
      "aria-label": `filter: ${noun}`, input: () => this.fillList(),
    });
    this.popover = el("div", { class: "popover chooser-list", popover: "auto" }, this.filter, this.list);
    this.popover.addEventListener("keydown", (event) => this.key(event));
    document.body.append(this.popover);
  }

  open(): void {
    const { choices, whole } = this.load();
    this.choices = choices;
    this.whole = whole;
    this.filter.value = "";
    this.fillList();
    this.popover.showPopover();
    const edge = this.button.getBoundingClientRect();
    place(this.popover, edge.left, edge.bottom + 4);
    this.filter.focus();
  }

  show(key: string, label: string): void {
    this.chosen = key;
    this.button.replaceChildren(
      el("span", { class: "quiet" }, `${this.noun} `), el("bdi", {}, label), el("span", { class: "caret" }, "▾"));
    this.button.classList.toggle("on", key !== "");
  }

  private fillList(): void {
    const wanted = this.filter.value.toLowerCase();
    const found = this.choices.filter(({ name, detail }) =>
      `${name} ${detail}`.toLowerCase().includes(wanted));
    const option = (choice: Choice) => {
      const button = el("button", {
        class: choice.indent && wanted === "" ? "choice indent" : "choice", role: "option",
        "aria-selected": String(choice.key === this.chosen),
        click: () => {
          this.popover.hidePopover();
          this.choose(choice.key);
        },
      },
      el("bdi", { class: "choice-name" }, shown(choice.name)),
      el("bdi", { class: "quiet" }, shown(choice.detail)),
      bar(choice.weight / this.whole),
      el("span", { class: "number" }, share(choice.weight, this.whole)),
      el("span", { class: "number quiet" }, Number.isInteger(choice.weight) ? count(choice.weight) : ""));
      return button;
    };
    this.list.replaceChildren(...found.slice(0, MAX_SHOWN).map(option));
    if (found.length > MAX_SHOWN) {
      this.list.append(el("p", { class: "quiet" }, `${count(found.length - MAX_SHOWN)} more: filter to see them`));
    }
    if (found.length === 0) this.list.append(el("p", { class: "quiet" }, "none matches"));
  }

  private key(event: KeyboardEvent): void {
    const options = [...this.list.querySelectorAll<HTMLButtonElement>("button")];
    const at = options.indexOf(document.activeElement as HTMLButtonElement);
    if (event.key === "ArrowDown") options[Math.min(at + 1, options.length - 1)]?.focus();
    else if (event.key === "ArrowUp") (at <= 0 ? this.filter : options[at - 1]!).focus();
    else if (event.key === "Enter" && at < 0) options[0]?.click();
    else if (event.key === "Escape") this.button.focus();
    else return;
    if (event.key !== "Escape") event.preventDefault();
    event.stopPropagation();
  }
}
