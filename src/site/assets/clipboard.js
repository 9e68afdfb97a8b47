// Copying, also where the browser has no clipboard for pages: a bucket's website without TLS.

import { button, el } from "./dom.js";

/**
 * Copies a text; whether that worked.
 * @param {string} text
 */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { class: "off-screen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/**
 * A button that copies what `text` says when it is pressed, and says that it did.
 * @param {string} label
 * @param {() => string} text
 * @param {string} [title]
 */
export function copyButton(label, text, title) {
  const name = el("span", {}, label);
  const live = el("span", { class: "off-screen", role: "status" });
  const copier = button(
    { class: "small", title },
    async () => {
      const done = await copy(text());
      name.textContent = done ? "Copied" : "Not copied";
      live.textContent = done ? `${label}: copied` : `${label}: the browser did not let us`;
      setTimeout(() => {
        name.textContent = label;
        live.textContent = "";
      }, 1500);
    },
    name,
  );
  copier.append(live);
  return copier;
}
