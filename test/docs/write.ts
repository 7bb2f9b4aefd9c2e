// `npm run docs`: writes the parts of the docs that are generated from the code.
import { writeDocs } from "./generated.ts";

const changed = writeDocs(new URL("../..", import.meta.url).pathname);
console.log(changed.length === 0 ? "docs: nothing to change" : changed.map((file) => `${file}: written`).join("\n"));
