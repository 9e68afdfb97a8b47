// Which colour a service has: the same in every trace where that can be, and no two of a trace alike while there are
// colours left. Pure; the style sheet has the colours.

/** How many colours there are. */
export const COLOURS = 12;

/**
 * @param {Iterable<string>} services
 * @returns {Map<string, number>} 0 to 11
 */
export function coloursOf(services) {
  const colours = new Map();
  const taken = new Set();
  for (const service of [...new Set(services)].sort()) {
    let colour = hash(service) % COLOURS;
    if (taken.size < COLOURS) while (taken.has(colour)) colour = (colour + 1) % COLOURS;
    taken.add(colour);
    colours.set(service, colour);
  }
  return colours;
}

/**
 * FNV-1a.
 * @param {string} text
 */
function hash(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
