// The character encoding of a page, as browsers find it: a byte order mark, else the content type, else the page's own
// declaration, else UTF-8. (WHATWG HTML, "determining the character encoding".)

/** A page must name its own charset in its first 1024 bytes. */
const lookedAtBytes = 1024;
const inHtml = /<meta[^>]+charset\s*=\s*["']?\s*([\w:.-]+)/i;
const inXml = /^\s*<\?xml[^>]+encoding\s*=\s*["']([\w:.-]+)["']/i;

/** A label for TextDecoder, which throws if it does not know it. */
export function charsetOf(contentType: string | string[] | undefined, bytes: Buffer): string {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  if (bytes.subarray(0, 3).equals(Buffer.from([0xef, 0xbb, 0xbf]))) return "utf-8";
  const given = /;\s*charset\s*=\s*["']?\s*([^\s"';]+)/i.exec([contentType ?? ""].flat()[0] ?? "")?.[1];
  if (given !== undefined) return given;
  const start = bytes.toString("latin1", 0, lookedAtBytes);
  const own = (inXml.exec(start) ?? inHtml.exec(start))?.[1];
  // A page that can be read as far as this word is not in UTF-16.
  return own === undefined || /^utf-?16/i.test(own) ? "utf-8" : own;
}
