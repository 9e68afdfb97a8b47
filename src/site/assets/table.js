// A table that sorts by its columns, of any length: only the rows that can be seen are in the page.

import { button, el, fill } from "./dom.js";
import { VirtualRows } from "./virtual.js";

/** @typedef {import("./dom.js").Child} Child */

/**
 * @template T
 * @typedef {object} Column
 * @property {string} key as it stands in the address
 * @property {string} label
 * @property {string} [title]
 * @property {boolean} [text] text sorts from A to Z first, and stands left; numbers from the highest
 * @property {(row: T) => string | number | null} [sort] what it sorts by; none: it does not
 * @property {(row: T) => Child | Child[]} cell
 */

/**
 * An order as it stands in an address: `p95` rising, `-p95` falling.
 * @typedef {{ key: string, falling: boolean }} Order
 */

/** @param {string | null} text @returns {Order | null} */
export function parseOrder(text) {
  const [, minus, key] = /^(-?)([a-z0-9]+)$/.exec(text ?? "") ?? [];
  return key === undefined ? null : { key, falling: minus === "-" };
}

/** @param {Order | null} order */
export const orderText = (order) => (order ? `${order.falling ? "-" : ""}${order.key}` : "");

/**
 * The rows in an order; equal ones stay as they were, those without a value are last.
 * @template T
 * @param {T[]} rows
 * @param {Column<T>[]} columns
 * @param {Order | null} order
 */
export function sorted(rows, columns, order) {
  const value = columns.find((column) => column.key === order?.key)?.sort;
  if (!order || !value) return rows;
  const sign = order.falling ? -1 : 1;
  const keyed = rows.map((row) => ({ row, key: value(row) }));
  keyed.sort(({ key: a }, { key: b }) => {
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    return a === b ? 0 : a < b ? -sign : sign;
  });
  return keyed.map(({ row }) => row);
}

/** @template T */
export class SortedTable {
  /**
   * @param {object} given
   * @param {string} given.caption for screen readers
   * @param {string} given.className
   * @param {Column<T>[]} given.columns the first is the row's head
   * @param {Order | null} given.order
   * @param {(order: Order | null) => void} given.onOrder
   */
  constructor({ caption, className, columns, order, onOrder }) {
    this.columns = columns;
    this.order = order;
    this.onOrder = onOrder;
    /** @type {T[]} */
    this.given = [];
    /** @type {T[]} */
    this.rows = [];
    /** Elements of rows that are in the page, to be shown once more. @type {Map<T, HTMLElement>} */
    this.kept = new Map();
    this.head = el("tr", { role: "row" });
    this.body = el("tbody", { role: "rowgroup" });
    this.node = el(
      "table",
      { class: `sorted ${className}`, role: "table" },
      el("caption", { class: "off-screen" }, caption),
      el("thead", { role: "rowgroup" }, this.head),
      this.body,
    );
    this.virtual = new VirtualRows({
      scroller: null,
      body: this.body,
      spacer: () => el("tr", { class: "spacer", role: "presentation" }),
      row: (index) => this.row(index),
    });
    this.heads();
  }

  /** @param {T[]} rows */
  show(rows) {
    this.given = rows;
    this.kept = new Map(
      [...this.virtual.shown].map(([index, element]) => [/** @type {T} */ (this.rows[index]), element]),
    );
    this.rows = sorted(rows, this.columns, this.order);
    this.node.setAttribute("aria-rowcount", String(this.rows.length + 1));
    this.virtual.reset(this.rows.length);
  }

  /** @param {Order | null} order */
  sortBy(order) {
    this.order = order;
    this.heads();
    this.show(this.given);
    this.onOrder(order);
  }

  heads() {
    const focused = this.head.contains(document.activeElement) && document.activeElement?.getAttribute("data-key");
    fill(this.head, ...this.columns.map((column) => this.columnHead(column)));
    if (focused) /** @type {HTMLElement | null} */ (this.head.querySelector(`[data-key="${focused}"]`))?.focus();
  }

  /** @param {Column<T>} column */
  columnHead(column) {
    const { key, label, title, text } = column;
    const mine = this.order?.key === key;
    const direction = mine ? (this.order?.falling ? "descending" : "ascending") : null;
    const className = `${key}${text ? "" : " number"}`;
    if (!column.sort) return el("th", { class: className, role: "columnheader", scope: "col", title }, label);
    // First the way that is asked for most, then the other, then as the list came.
    const first = !text;
    const next = !mine ? { key, falling: first } : this.order?.falling === first ? { key, falling: !first } : null;
    return el(
      "th",
      { class: className, role: "columnheader", scope: "col", "aria-sort": direction ?? "none" },
      button({ class: "sort", "data-key": key, title }, () => this.sortBy(next), label),
    );
  }

  /** @param {number} index */
  row(index) {
    const row = /** @type {T} */ (this.rows[index]);
    const kept = this.kept.get(row);
    if (kept) {
      kept.setAttribute("aria-rowindex", String(index + 2));
      kept.setAttribute("data-index", String(index));
      return kept;
    }
    const cells = this.columns.map(({ key, text, cell, label }, i) => {
      const content = cell(row);
      const children = Array.isArray(content) ? content : [content];
      const attributes = { class: `${key}${text ? "" : " number"}`, "data-label": label };
      return i === 0
        ? el("th", { ...attributes, scope: "row", role: "rowheader" }, ...children)
        : el("td", { ...attributes, role: "cell" }, ...children);
    });
    return el("tr", { role: "row", "aria-rowindex": index + 2, "data-index": index }, ...cells);
  }

  close() {
    this.virtual.stop();
  }
}

/**
 * A small table, all of it in the page. A head that begins with `#` is of numbers.
 * @param {string} caption for screen readers
 * @param {string[]} heads
 * @param {Child[][][]} rows the cells of each; the first is the row's head
 * @param {string} [className]
 */
export function plainTable(caption, heads, rows, className = "") {
  const isNumber = heads.map((head) => head.startsWith("#"));
  const cell = (/** @type {Child[]} */ children, /** @type {number} */ i) =>
    i === 0
      ? el("th", { scope: "row" }, ...children)
      : el("td", { class: isNumber[i] ? "number" : heads[i] === "" ? "meter" : null }, ...children);
  const head = (/** @type {string} */ label, /** @type {number} */ i) =>
    // Bars have no name: they draw what stands beside them.
    el(
      label ? "th" : "td",
      { scope: label ? "col" : null, class: isNumber[i] ? "number" : null },
      label.replace("#", ""),
    );
  return el(
    "table",
    { class: `plain ${className}` },
    el("caption", { class: "off-screen" }, caption),
    el("thead", {}, el("tr", {}, ...heads.map(head))),
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map(cell)))),
  );
}
