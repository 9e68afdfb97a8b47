// The waterfall: a row a span, indented by depth, with a bar where it was in time. A tree grid for screen readers.

import { button, el, fill } from "../dom.js";
import { nanos } from "../format.js";
import { VirtualRows } from "../virtual.js";
import { place, ticks } from "./scale.js";
import { skew, visible } from "./tree.js";

/** @typedef {import("./tree.js").Node} Node */
/** @typedef {import("./scale.js").Range} Range */

/** Deeper spans are not indented further: their names must still be seen. */
const DEEPEST = 24;

/** What a tick and its label take. */
const TICK_PIXELS = 90;

export class Waterfall {
  /**
   * @param {object} given
   * @param {Node[]} given.nodes
   * @param {Map<string, number>} given.colours of services
   * @param {Map<number, [number, number][]>} given.critical
   * @param {Range} given.range what is shown of the time
   * @param {(at: number) => void} given.onSelect
   */
  constructor({ nodes, colours, critical, range, onSelect }) {
    this.nodes = nodes;
    this.colours = colours;
    this.critical = critical;
    this.range = range;
    this.onSelect = onSelect;
    /** @type {Set<number>} */
    this.collapsed = new Set();
    /** @type {Set<number>} */
    this.found = new Set();
    /** The place in `nodes` of the span that is selected. */
    this.selected = -1;
    /** @type {number[]} */
    this.rows = [];

    this.axis = el("div", { class: "axis", "aria-hidden": "true" });
    this.body = el("div", { class: "rows", role: "rowgroup" });
    this.scroller = el("div", { class: "scroller" }, this.body);
    const head = el(
      "div",
      { class: "head", role: "row" },
      el("div", { class: "names", role: "columnheader" }, "Span"),
      el("div", { class: "times", role: "columnheader" }, el("span", { class: "off-screen" }, "Time"), this.axis),
    );
    this.grid = el(
      "div",
      { class: "waterfall", role: "treegrid", tabindex: "0", "aria-label": "Spans", "aria-colcount": "2" },
      el("div", { role: "rowgroup" }, head),
      this.scroller,
    );
    this.virtual = new VirtualRows({
      scroller: this.scroller,
      body: this.body,
      spacer: () => el("div", { role: "presentation" }),
      row: (index) => this.row(index),
    });
    this.body.addEventListener("click", (event) => this.click(event));
    this.grid.addEventListener("keydown", (event) => this.key(event));
  }

  /** Draws everything; to be called once it is in the page, and after a change. */
  draw() {
    this.rows = visible(this.nodes, this.collapsed);
    this.grid.setAttribute("aria-rowcount", String(this.rows.length + 1));
    fill(this.axis, ...this.ticks());
    this.virtual.reset(this.rows.length);
  }

  ticks() {
    const most = Math.max(2, Math.floor(this.axis.clientWidth / TICK_PIXELS));
    return ticks(this.range, most).map((at) => {
      const tick = el("span", { class: "tick" }, nanos(at));
      tick.style.left = `${place(this.range, at)}%`;
      return tick;
    });
  }

  /** @param {number} index of a row */
  row(index) {
    const at = this.rows[index] ?? 0;
    const node = /** @type {Node} */ (this.nodes[at]);
    const { span } = node;
    const isOpen = !this.collapsed.has(at);
    const classes = ["row"];
    if (at === this.selected) classes.push("selected");
    if (this.found.has(at)) classes.push("found");
    if (span.error) classes.push("error");
    const toggle = node.below > 0 && button({ class: "toggle", tabindex: "-1", "aria-hidden": "true" }, () => {});
    const name = el(
      "div",
      { class: "name", role: "gridcell" },
      toggle || el("span", { class: "toggle" }),
      el("span", { class: "service", title: span.service || "no service name" }, span.service || "(no service)"),
      el("span", { class: "operation", title: span.name }, span.name || "(no name)"),
      !isOpen && el("span", { class: "badge", title: `${node.below} spans below it are hidden` }, `+${node.below}`),
      ...this.marks(node),
    );
    name.style.setProperty("--depth", String(Math.min(node.depth, DEEPEST)));
    const row = el(
      "div",
      {
        class: classes.join(" "),
        id: `span-row-${at}`,
        role: "row",
        "data-at": at,
        "data-colour": this.colours.get(span.service) ?? 0,
        "aria-level": node.depth + 1,
        "aria-rowindex": index + 2,
        "aria-selected": at === this.selected ? "true" : "false",
        "aria-expanded": node.below > 0 ? String(isOpen) : null,
      },
      name,
      el("div", { class: "time", role: "gridcell" }, ...this.bar(at, node)),
    );
    return row;
  }

  /** What is odd about a span. @param {Node} node */
  marks(node) {
    const { span } = node;
    const early = skew(this.nodes, node);
    /** @param {string} kind @param {string} sign @param {string} title */
    const mark = (kind, sign, title) =>
      el("span", { class: `mark ${kind}`, title, role: "img", "aria-label": title }, sign);
    return [
      span.error && mark("bad", "!", "failed"),
      node.place === "orphan" && mark("odd", "orphan", "its parent is not in the store"),
      node.place === "cycle" && mark("odd", "cycle", "its parents lead back to itself"),
      early > 0 && mark("odd", "clock", `starts ${nanos(early)} before its parent: the clocks differ`),
      span.timeless && mark("odd", "no time", "it says no start"),
      span.older.length > 0 &&
        mark("note", `×${span.older.length + 1}`, "it was sent more than once, with other content"),
    ];
  }

  /** @param {number} at @param {Node} node */
  bar(at, { span }) {
    const [from, to] = [span.start, span.start + Math.max(span.duration, 0)];
    const left = place(this.range, from);
    const right = place(this.range, to);
    const label = nanos(span.duration);
    // Out of sight: an arrow says where.
    if (right < 0 || left > 100) {
      return [
        el("span", { class: right < 0 ? "beyond left" : "beyond right" }, right < 0 ? `‹ ${label}` : `${label} ›`),
      ];
    }
    const bar = el("span", { class: "bar" });
    const [shownLeft, shownRight] = [Math.max(left, 0), Math.min(right, 100)];
    bar.style.left = `${shownLeft}%`;
    bar.style.width = `${shownRight - shownLeft}%`;
    const parts = (this.critical.get(at) ?? []).map(([a, b]) => {
      const part = el("span", { class: "critical" });
      const start = Math.max(place(this.range, a), 0);
      part.style.left = `${start}%`;
      part.style.width = `${Math.max(Math.min(place(this.range, b), 100) - start, 0)}%`;
      return part;
    });
    // After the bar: the axis ends before the row does, so there is room.
    const text = el("span", { class: "label" }, label);
    text.style.left = `${shownRight}%`;
    return [bar, ...parts, text];
  }

  /**
   * Selects a span, and shows it: what hides it is opened.
   * @param {number} at
   */
  select(at) {
    if (!this.nodes[at]) return;
    const before = this.selected;
    this.selected = at;
    let hidden = false;
    for (let up = this.nodes[at]?.parent ?? -1; up >= 0; up = this.nodes[up]?.parent ?? -1) {
      hidden = this.collapsed.delete(up) || hidden;
    }
    if (hidden) this.draw();
    for (const other of [before, at]) this.redraw(other);
    this.virtual.reveal(this.rows.indexOf(at));
    this.grid.setAttribute("aria-activedescendant", `span-row-${at}`);
    this.onSelect(at);
  }

  /** @param {number} at */
  redraw(at) {
    const index = this.rows.indexOf(at);
    const row = this.virtual.at(index);
    if (!row) return;
    const fresh = this.row(index);
    row.replaceWith(fresh);
    this.virtual.shown.set(index, fresh);
  }

  /**
   * Shows or hides what hangs below a span.
   * @param {number} at
   * @param {boolean} [open]
   */
  toggle(at, open = this.collapsed.has(at)) {
    if ((this.nodes[at]?.below ?? 0) === 0) return;
    if (open) this.collapsed.delete(at);
    else this.collapsed.add(at);
    this.keep(() => this.draw());
  }

  /** Hides everything below the tops, or shows all. @param {boolean} open */
  toggleAll(open) {
    this.collapsed.clear();
    for (const [at, node] of this.nodes.entries()) {
      if (!open && node.below > 0 && node.depth > 0) this.collapsed.add(at);
    }
    this.draw();
    if (this.selected >= 0) this.select(this.topmost(this.selected));
  }

  /** The span itself, or what hides it. @param {number} at */
  topmost(at) {
    let shown = at;
    for (let up = at; up >= 0; up = this.nodes[up]?.parent ?? -1) if (this.collapsed.has(up)) shown = up;
    return shown;
  }

  /** Does something and leaves the list scrolled where it was. @param {() => void} change */
  keep(change) {
    const { scrollTop } = this.scroller;
    change();
    this.scroller.scrollTop = scrollTop;
    this.virtual.draw();
  }

  /** @param {Range} range */
  zoom(range) {
    this.range = range;
    this.keep(() => this.draw());
  }

  /** @param {Iterable<number>} found */
  highlight(found) {
    this.found = new Set(found);
    this.keep(() => this.draw());
  }

  /** @param {MouseEvent} event */
  click(event) {
    const target = /** @type {Element} */ (event.target);
    const at = Number(target.closest("[data-at]")?.getAttribute("data-at") ?? -1);
    if (at < 0) return;
    if (target.closest("button.toggle")) this.toggle(at);
    else this.select(at);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const index = this.rows.indexOf(this.selected);
    const node = this.nodes[this.selected];
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / (this.virtual.height || 24)) - 1);
    const to = (/** @type {number} */ row) =>
      this.select(this.rows[Math.max(0, Math.min(row, this.rows.length - 1))] ?? -1);
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowDown: () => to(index + 1),
      ArrowUp: () => to(index - 1),
      PageDown: () => to(index + page),
      PageUp: () => to(index - page),
      Home: () => to(0),
      End: () => to(this.rows.length - 1),
      ArrowRight: () =>
        this.collapsed.has(this.selected) ? this.toggle(this.selected, true) : node?.below && to(index + 1),
      ArrowLeft: () => {
        if (node?.below && !this.collapsed.has(this.selected)) this.toggle(this.selected, false);
        else if (node && node.parent >= 0) this.select(node.parent);
      },
      Enter: () => this.toggle(this.selected),
    };
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  close() {
    this.virtual.stop();
  }
}
