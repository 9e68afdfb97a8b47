// Elements. Whatever a trace says reaches the page through here, and only as text: nothing in these pages parses markup,
// and the attributes that could run something (`on…`, `src`, `style`) are refused.

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, string | number | boolean | null | undefined>} Attributes */

const ATTRIBUTES = new Set(
  (
    "class id role title type name value placeholder for tabindex hidden disabled checked selected open colspan scope " +
    "datetime autocomplete spellcheck autocapitalize enterkeyhint download inputmode"
  ).split(" "),
);
const SVG = "http://www.w3.org/2000/svg";
const DRAWN = new Set(
  "class viewBox width height points d x y x1 y1 x2 y2 preserveAspectRatio focusable fill".split(" "),
);

/** Where a link may lead: to a page of this site, or to one of the files it is made from. */
const ADDRESS = /^(#\/|handlers\/|traces\/|not-found\/|farm\.json$)/;

/**
 * An element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes] `false`, `null` and `undefined` leave one out, `true` sets it empty
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "href" ? !ADDRESS.test(String(value)) : !ATTRIBUTES.has(name) && !/^(aria|data)-[a-z-]+$/.test(name)) {
      throw new Error(`the attribute ${name} is not for these pages`);
    }
    element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

/**
 * An element of a drawing.
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (!DRAWN.has(name) && !name.startsWith("aria-")) throw new Error(`the attribute ${name} is not for drawings`);
    element.setAttribute(name, String(value));
  }
  add(element, children);
  return element;
}

/**
 * Puts `children` in place of what is in `parent`.
 * @template {Element} E
 * @param {E} parent
 * @param {...Child} children
 * @returns {E}
 */
export function fill(parent, ...children) {
  parent.replaceChildren();
  add(parent, children);
  return parent;
}

/**
 * A button.
 * @param {Attributes} attributes
 * @param {() => void} click
 * @param {...Child} children
 */
export function button(attributes, click, ...children) {
  const element = el("button", { type: "button", ...attributes }, ...children);
  element.addEventListener("click", click);
  return element;
}

/**
 * @param {Element} parent
 * @param {Child[]} children
 */
function add(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
}
