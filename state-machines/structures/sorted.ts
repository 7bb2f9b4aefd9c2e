/** The place after the last one that is not larger than `value`, in a list in order. @param low where to begin. */
export function placeAfter<Value extends number | string>(sorted: readonly Value[], value: Value, low = 0): number {
  let first = low;
  let high = sorted.length;
  if (first === high || sorted[high - 1]! <= value) return high;
  while (first < high) {
    const middle = (first + high) >> 1;
    if (sorted[middle]! <= value) first = middle + 1;
    else high = middle;
  }
  return first;
}
