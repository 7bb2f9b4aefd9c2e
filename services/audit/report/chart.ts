// Charts in SVG: layers stacked over time, with a legend. Each point shows its numbers under the pointer.

export interface Layer {
  name: string;
  colour: string;
  values: readonly number[];
}

const width = 960;
const height = 200;
const left = 56;
const bottom = 24;
const top = 8;

/** Escapes text for HTML and SVG. */
export function escaped(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, "\uFFFD")
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/**
 * @param given.at when each point began.
 * @param given.step drawn as areas that hold until the next point, not as bars.
 */
export function stacked(
  title: string,
  layers: readonly Layer[],
  given: { at: readonly number[]; step: boolean },
): string {
  const shown = layers.filter(({ values }) => values.some((value) => value > 0));
  if (shown.length === 0) return `<section><h2>${escaped(title)}</h2><p>Nothing is recorded.</p></section>`;
  const count = given.at.length;
  const sums = Array.from({ length: count }, (_, i) => shown.reduce((sum, { values }) => sum + (values[i] ?? 0), 0));
  const most = Math.max(1, ...sums);
  const x = (i: number): string => (left + (i / Math.max(1, count)) * (width - left)).toFixed(1);
  const y = (value: number): string => (top + (1 - value / most) * (height - top - bottom)).toFixed(1);
  const base = new Array<number>(count).fill(0);
  const parts = shown.map(({ colour, values }) => {
    let over = "";
    let under = "";
    for (let i = 0; i < count; i++) {
      const low = base[i]!; // The index is below the number of points.
      const high = low + (values[i] ?? 0);
      base[i] = high;
      if (given.step) {
        over += `${i === 0 ? "M" : "L"}${x(i)},${y(high)}H${x(i + 1)}`;
        under = `L${x(i + 1)},${y(low)}H${x(i)}${under}`;
      } else if (high > low) over += `M${x(i)},${y(low)}V${y(high)}H${x(i + 1)}V${y(low)}Z`;
    }
    return `<path fill="${colour}" d="${over}${under}${given.step ? "Z" : ""}"/>`;
  });
  const hints = given.at.map((at, i) => {
    const numbers = shown.flatMap(({ name, values }) => ((values[i] ?? 0) > 0 ? [`${name} ${values[i]}`] : []));
    if (numbers.length === 0) return "";
    const text = escaped(`${timeOf(at)}: ${numbers.join(", ")}`);
    const wide = ((width - left) / count).toFixed(1);
    return `<rect x="${x(i)}" y="${top}" width="${wide}" height="${height - top - bottom}" fill="transparent"><title>${text}</title></rect>`;
  });
  const [first, last] = [given.at[0] ?? 0, given.at.at(-1) ?? 0];
  const axis =
    `<path stroke="#888" fill="none" d="M${left},${top}V${height - bottom}H${width}"/>` +
    `<text x="${left - 6}" y="${top + 10}" text-anchor="end">${most}</text><text x="${left - 6}" y="${height - bottom}" text-anchor="end">0</text>` +
    `<text x="${left}" y="${height - 6}">${timeOf(first)}</text><text x="${width}" y="${height - 6}" text-anchor="end">${timeOf(last)}</text>`;
  const legend = shown
    .map(({ name, colour }) => `<span><i style="background:${colour}"></i>${escaped(name)}</span>`)
    .join(" ");
  return (
    `<section><h2>${escaped(title)}</h2><p class="legend">${legend}</p>` +
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(title)}">${parts.join("")}${axis}${hints.join("")}</svg></section>`
  );
}

/** Bars for shares of a limit. */
export function shares(rows: readonly { name: string; share: number; text: string }[]): string {
  const cells = rows.map(({ name, share, text }) => {
    const wide = Math.min(100, Math.round(share * 100));
    const colour = share > 1 ? "#c0392b" : share === 1 ? "#d68910" : "#2e86c1";
    return `<tr><td>${escaped(name)}</td><td class="bar"><div style="width:${wide}%;background:${colour}"></div></td><td>${escaped(text)}</td></tr>`;
  });
  return `<table>${cells.join("")}</table>`;
}

export function timeOf(at: number): string {
  return new Date(at)
    .toISOString()
    .replace("T", " ")
    .replace(/\.\d+Z$/, " UTC");
}
