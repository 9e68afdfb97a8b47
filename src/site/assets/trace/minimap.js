// The whole trace at a glance: a line a span. Dragging over it chooses what the waterfall shows of the time.

import { el } from "../dom.js";
import { colour } from "../theme.js";
import { COLOURS } from "./colours.js";
import { place, rangeOf } from "./scale.js";

/** @typedef {import("./tree.js").Node} Node */
/** @typedef {import("./scale.js").Range} Range */

/** A shorter drag is a click. */
const CLICK_PIXELS = 4;

export class Minimap {
  /**
   * @param {Node[]} nodes
   * @param {Map<string, number>} colours
   * @param {number} duration of the trace, nanoseconds
   * @param {(range: Range) => void} onZoom
   */
  constructor(nodes, colours, duration, onZoom) {
    this.nodes = nodes;
    this.colours = colours;
    this.duration = duration;
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.chosen = el("div", { class: "chosen" });
    this.node = el(
      "div",
      { class: "minimap", title: "Drag to zoom into a part of the time" },
      this.canvas,
      this.chosen,
    );
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.node);
    this.drag(onZoom);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.node;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    const context = this.canvas.getContext("2d");
    if (!context || width === 0) return;
    context.scale(ratio, ratio);
    const fills = Array.from({ length: COLOURS }, (_, i) => colour(`--service-${i}`));
    const whole = { from: 0, to: this.duration };
    const step = height / this.nodes.length;
    this.nodes.forEach(({ span }, i) => {
      const left = (width * place(whole, span.start)) / 100;
      const length = (width * place(whole, Math.max(span.duration, 0))) / 100;
      context.fillStyle = fills[this.colours.get(span.service) ?? 0] ?? "gray";
      context.fillRect(left, i * step, Math.max(length, 1), Math.max(Math.min(step - 0.5, 3), 0.75));
    });
  }

  /** @param {Range} range */
  show(range) {
    const all = range.from <= 0 && range.to >= this.duration;
    this.chosen.hidden = all;
    const whole = { from: 0, to: this.duration };
    this.chosen.style.left = `${place(whole, range.from)}%`;
    this.chosen.style.width = `${place(whole, range.to) - place(whole, range.from)}%`;
  }

  /** @param {(range: Range) => void} onZoom */
  drag(onZoom) {
    let began = 0;
    const at = (/** @type {PointerEvent} */ event) => {
      const box = this.node.getBoundingClientRect();
      return (this.duration * (event.clientX - box.left)) / Math.max(box.width, 1);
    };
    this.node.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.node.setPointerCapture(event.pointerId);
      began = event.clientX;
      const from = at(event);
      const move = (/** @type {PointerEvent} */ now) => this.show(rangeOf(from, at(now), this.duration));
      const stop = (/** @type {PointerEvent} */ now) => {
        this.node.removeEventListener("pointermove", move);
        const isClick = Math.abs(now.clientX - began) < CLICK_PIXELS;
        onZoom(isClick ? { from: 0, to: this.duration } : rangeOf(from, at(now), this.duration));
      };
      this.node.addEventListener("pointermove", move);
      this.node.addEventListener("pointerup", stop, { once: true });
    });
  }

  close() {
    this.observer.disconnect();
  }
}
