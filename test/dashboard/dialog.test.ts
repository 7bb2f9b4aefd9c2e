// The dialog of a change, in as much of a document as Preact needs.
import { afterAll, beforeAll, expect, test, vi } from "vitest";

class Element {
  readonly nodeType = 1;
  readonly childNodes: Element[] = [];
  parentNode: Element | undefined;
  readonly style = {};
  readonly attributes = [];
  readonly #listeners = new Map<string, (event: object) => void>();
  readonly localName: string;
  readonly data: string;

  constructor(localName: string, data = "") {
    this.localName = localName;
    this.data = data;
  }

  get firstChild(): Element | null {
    return this.childNodes[0] ?? null;
  }
  get nextSibling(): Element | null {
    const all = this.parentNode?.childNodes ?? [];
    return all[all.indexOf(this) + 1] ?? null;
  }
  insertBefore(child: Element, next: Element | null): void {
    child.remove();
    this.childNodes.splice(next === null ? this.childNodes.length : this.childNodes.indexOf(next), 0, child);
    child.parentNode = this;
  }
  appendChild(child: Element): void {
    this.insertBefore(child, null);
  }
  remove(): void {
    this.parentNode?.childNodes.splice(this.parentNode.childNodes.indexOf(this), 1);
    this.parentNode = undefined;
  }
  setAttribute(): void {}
  removeAttribute(): void {}
  showModal(): void {}
  addEventListener(type: string, listener: (event: object) => void): void {
    this.#listeners.set(type.toLowerCase(), listener);
  }
  click(): void {
    this.#listeners.get("click")?.call(this, { type: "click" });
  }
  text(): string {
    return this.data + this.childNodes.map((each) => each.text()).join("");
  }
  all(localName: string): Element[] {
    return this.childNodes.flatMap((each) => [...(each.localName === localName ? [each] : []), ...each.all(localName)]);
  }
}

/** Without its types: they would bring those of browsers into all tests. */
const preact = "htm/preact";
interface Preact {
  html(parts: TemplateStringsArray, ...values: unknown[]): unknown;
  render(what: unknown, into: Element): void;
}
let html: Preact["html"];
let render: Preact["render"];
let ActButton: unknown;

beforeAll(async () => {
  vi.stubGlobal("document", {
    createElementNS: (_space: string, name: string) => new Element(name),
    createTextNode: (text: string) => new Element("", text),
  });
  ({ html, render } = (await import(preact)) as Preact);
  ({ ActButton } = (await import(new URL("../../web/actions.js", import.meta.url).href)) as { ActButton: unknown });
});
afterAll(() => {
  vi.unstubAllGlobals();
});

test("keeps the change that was chosen while the proxy's state changes under the open dialog", async () => {
  const root = new Element("div");
  const draw = (act: string): void =>
    render(html`<${ActButton} act=${act} pool="web" ids=${["p_1"]} name="it" onDone=${() => {}} />`, root);
  draw("rest");
  root.all("button")[0]?.click();
  await vi.waitFor(() => expect(root.all("h2")).toHaveLength(1));
  draw("revive");
  expect(root.all("button")[0]?.text().trim()).toBe("Revive");
  expect(root.all("h2")[0]?.text()).toBe("Rest it");
  expect(root.all("pre")[0]?.text()).toMatch(/^npx remuda proxies rest p_1 --for 600s --pool web\ncurl -X POST /);
});
