// Long lists: only the rows that can be seen are in the page, between two spacers. Rows are equally high.

/** Rows beyond either edge, so that a quick turn of the wheel shows no gap. */
const BEYOND = 12;

export class VirtualRows {
  /**
   * @param {object} parts
   * @param {HTMLElement | null} parts.scroller what scrolls; null is the window
   * @param {HTMLElement} parts.body holds the rows and nothing else
   * @param {() => HTMLElement} parts.spacer
   * @param {(index: number) => HTMLElement} parts.row
   */
  constructor({ scroller, body, spacer, row }) {
    this.scroller = scroller;
    this.body = body;
    this.row = row;
    this.above = spacer();
    this.below = spacer();
    this.count = 0;
    /** As CSS has it; asked when rows are drawn and whenever the window changes. */
    this.height = 0;
    /** @type {Map<number, HTMLElement>} */
    this.shown = new Map();
    this.waiting = 0;
    const stop = new AbortController();
    const options = { passive: true, signal: stop.signal };
    (scroller ?? window).addEventListener("scroll", () => this.later(), options);
    this.observer = new ResizeObserver(() => {
      this.height = 0;
      this.later();
    });
    this.observer.observe(scroller ?? document.documentElement);
    this.stop = () => {
      stop.abort();
      this.observer.disconnect();
      cancelAnimationFrame(this.waiting);
    };
  }

  /**
   * Shows `count` rows, all of them asked for anew: those that can be seen now, those beyond with the next frame. An
   * element that is given once more stays where it is.
   * @param {number} count
   */
  reset(count) {
    // Asked before anything changes: afterwards the browser would lay the page out once more to answer.
    const view = this.view();
    const old = new Set(this.shown.values());
    this.count = count;
    this.shown.clear();
    if (!this.above.isConnected) this.body.replaceChildren(this.above, this.below);
    this.draw(view, 0, old);
    this.later();
  }

  /**
   * Brings a row into view.
   * @param {number} index
   */
  reveal(index) {
    const { height } = this;
    if (!this.scroller || height === 0) return;
    const top = this.offset() + index * height;
    const bottom = top + height - this.scroller.clientHeight;
    // A row more on either side, to see what comes.
    if (top - height < this.scroller.scrollTop) this.scroller.scrollTop = top - height;
    else if (bottom + height > this.scroller.scrollTop) this.scroller.scrollTop = bottom + height;
    this.draw();
  }

  /** The element of a row, if it is drawn. @param {number} index */
  at(index) {
    return this.shown.get(index);
  }

  later() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.draw();
    });
  }

  /** Where the rows begin within what scrolls. */
  offset() {
    if (!this.scroller) return this.body.getBoundingClientRect().top + window.scrollY;
    return this.body.getBoundingClientRect().top - this.scroller.getBoundingClientRect().top + this.scroller.scrollTop;
  }

  /** How far it is scrolled within the rows, and how much can be seen. */
  view() {
    const from = this.scroller ? this.scroller.scrollTop : window.scrollY;
    const visible = this.scroller ? this.scroller.clientHeight : window.innerHeight;
    return { top: Math.max(0, from - this.offset()), visible };
  }

  draw({ top, visible } = this.view(), beyond = BEYOND, old = /** @type {Set<HTMLElement>} */ (new Set())) {
    if (this.count === 0) {
      for (const element of old) element.remove();
      this.above.style.height = this.below.style.height = "0";
      return;
    }
    if (this.height === 0) this.measure();
    const first = Math.max(0, Math.min(this.count - 1, Math.floor(top / this.height)) - beyond);
    const last = Math.min(this.count, Math.ceil((top + visible) / this.height) + beyond);
    for (const [index, element] of this.shown) {
      if (index < first || index >= last) {
        element.remove();
        this.shown.delete(index);
      }
    }
    this.above.style.height = `${first * this.height}px`;
    this.below.style.height = `${(this.count - last) * this.height}px`;
    for (let index = first; index < last; index++) {
      if (!this.shown.has(index)) this.shown.set(index, this.row(index));
    }
    // What goes, goes first: then the others need not be moved.
    const now = new Set(this.shown.values());
    for (const element of old) if (!now.has(element)) element.remove();
    // The row after which the next one goes.
    let before = this.above;
    for (let index = first; index < last; index++) {
      const element = /** @type {HTMLElement} */ (this.shown.get(index));
      if (before.nextSibling !== element) before.after(element);
      before = element;
    }
  }

  measure() {
    let probe = this.shown.values().next().value;
    if (!probe) {
      probe = this.row(0);
      this.shown.set(0, probe);
      this.above.after(probe);
    }
    this.height = probe.getBoundingClientRect().height || 24;
  }
}
