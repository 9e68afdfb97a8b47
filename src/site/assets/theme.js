// Light, dark, or as the system has it: remembered by this browser.

import { button } from "./dom.js";

const KEY = "tracefarm-theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const NAMES = { system: "as the system has it", light: "light", dark: "dark" };

/** @typedef {keyof typeof NEXT} Theme */

/** @returns {Theme} */
function chosen() {
  try {
    const value = localStorage.getItem(KEY);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    // A browser that keeps nothing: the system's.
    return "system";
  }
}

/** @param {Theme} theme */
function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** The switch. */
export function themeSwitch() {
  const toggle = button({ class: "icon theme" }, () => {
    const theme = NEXT[chosen()];
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // For this page only, then.
    }
    apply(/** @type {Theme} */ (theme));
    label();
    window.dispatchEvent(new Event("themechange"));
  });
  const label = () => {
    const theme = document.documentElement.dataset.theme ?? "system";
    toggle.dataset.theme = theme;
    toggle.title = `Colours: ${NAMES[/** @type {Theme} */ (theme)]}`;
    toggle.setAttribute("aria-label", toggle.title);
  };
  label();
  return toggle;
}

apply(chosen());

/**
 * Calls back when the colours change, by the switch or by the system.
 * @param {() => void} changed
 * @param {AbortSignal} signal
 */
export function onTheme(changed, signal) {
  window.addEventListener("themechange", changed, { signal });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed, { signal });
}

/**
 * A colour of the style sheet, as a drawing can use it.
 * @param {string} name of a custom property, eg `--accent`
 */
export function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
