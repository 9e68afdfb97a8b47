// Lists by keys.

/**
 * Adds to the list that stands under a key.
 * @template K, V
 * @param {Map<K, V[]>} lists
 * @param {K} key
 * @param {V} value
 */
export function push(lists, key, value) {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/**
 * The values by a key of each, in their order.
 * @template K, V
 * @param {Iterable<V>} values
 * @param {(value: V) => K} keyOf
 * @returns {Map<K, V[]>}
 */
export function grouped(values, keyOf) {
  /** @type {Map<K, V[]>} */
  const lists = new Map();
  for (const value of values) push(lists, keyOf(value), value);
  return lists;
}
