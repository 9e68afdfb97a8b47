// The keys of a page, in a dialogue.

import { button, el, fill } from "./dom.js";

/** @typedef {import("./main.js").Shortcut} Shortcut */

/** How keys are written. */
const NAMES = new Map([["Escape", "Esc"]]);

export class Help {
  constructor() {
    this.list = el("dl");
    this.dialog = el(
      "dialog",
      { "aria-labelledby": "help-title", class: "keys" },
      el("h2", { id: "help-title" }, "Keys"),
      this.list,
      button({}, () => this.dialog.close(), "Close"),
    );
    document.body.append(this.dialog);
  }

  isOpen() {
    return this.dialog.open;
  }

  /** @param {() => void} show */
  button(show) {
    return button({ class: "icon", title: "Keys (?)", "aria-label": "Keys" }, show, "?");
  }

  /** @param {Shortcut[]} keys */
  show(keys) {
    /** @type {[string, string][]} */
    const all = [
      ...keys.map(([key, does]) => /** @type {[string, string]} */ ([NAMES.get(key) ?? key, does])),
      ["?", "these keys"],
    ];
    fill(this.list, ...all.flatMap(([key, does]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, does)]));
    this.dialog.showModal();
  }
}
