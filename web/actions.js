// Changes of proxies: rest, revive, retire. Before a change the dialog shows the command and the requests that do the
// same. The service checks the role; a user who may not change anything is not offered these.
import { html } from "htm/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { call, pathOf } from "./api.js";
import { countOf } from "./words.js";

/** @typedef {"rest" | "revive" | "retire"} Act */

/** @type {Record<Act, {label: string, done: string, text: string}>} */
const acts = {
  rest: {
    label: "Rest",
    done: "resting now",
    text: "They are not leased until the rest (cooldown) is over. Open leases stay valid.",
  },
  revive: { label: "Revive", done: "revived", text: "Their rest (cooldown) ends now." },
  retire: {
    label: "Retire",
    done: "retired",
    text: "They leave the pool until they are added again. Open leases stay valid.",
  },
};

/** For the selected proxies. @param {{pool: string, ids: string[], onDone: () => void}} props */
export function Actions({ pool, ids, onDone }) {
  const [said, setSaid] = useState("");
  const done = (/** @type {string} */ text) => {
    setSaid(text);
    onDone();
  };
  const name = countOf(ids.length);
  return html`<div class="acts">
    <span>${ids.length} selected</span>
    ${Object.keys(acts).map((act) => html`<${ActButton} key=${act} act=${act} pool=${pool} ids=${ids} name=${name} onDone=${done} />`)}
    <span role="status">${said}</span>
  </div>`;
}

/** @param {{act: Act, pool: string, ids: string[], name: string, onDone: (said: string) => void}} props */
export function ActButton({ act, pool, ids, name, onDone }) {
  // The proxy's state may change while the dialog is open, and the button with it. The dialog must not.
  const [opened, setOpened] = useState(/** @type {Act | undefined} */ (undefined));
  return html`<button aria-label=${`${acts[act].label} ${name}`} disabled=${ids.length === 0} onClick=${() => setOpened(act)}>
      ${acts[act].label}
    </button>
    ${opened && html`<${Dialog} act=${opened} pool=${pool} ids=${ids} name=${name} onDone=${onDone} onClose=${() => setOpened(undefined)} />`}`;
}

/** @param {{act: Act, pool: string, ids: string[], name: string, onDone: (said: string) => void, onClose: () => void}} props */
function Dialog({ act, pool, ids, name, onDone, onClose }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const [minutes, setMinutes] = useState(10);
  const [reason, setReason] = useState("");
  const [error, setError] = useState("");
  const [isBusy, setBusy] = useState(false);
  useEffect(() => dialog.current?.showModal(), []);
  const asked = { act, pool, ids, forMs: Math.round(minutes * 60_000), reason };
  /** @param {SubmitEvent} event */
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      for (const id of ids) await call(...requestOf(asked, id));
      dialog.current?.close();
      onDone(`${name}: ${acts[act].done}.`);
    } catch (refusal) {
      setError(/** @type {Error} */ (refusal).message);
      setBusy(false);
    }
  };
  return html`<dialog ref=${dialog} onClose=${onClose} aria-labelledby="dialog-title">
    <form onSubmit=${submit}>
      <h2 id="dialog-title">${acts[act].label} ${name}</h2>
      <p>${acts[act].text}</p>
      ${
        act === "rest" &&
        html`<label>Minutes <input type="number" min="0.1" max="43200" step="any" required value=${minutes}
          onInput=${(/** @type {Event} */ event) => setMinutes(Number(/** @type {HTMLInputElement} */ (event.currentTarget).value))} /></label>`
      }
      ${
        act !== "revive" &&
        html`<label>Reason <input maxlength="200" value=${reason}
          onInput=${(/** @type {Event} */ event) => setReason(/** @type {HTMLInputElement} */ (event.currentTarget).value)} /></label>`
      }
      <h3>The same elsewhere</h3>
      <pre tabindex="0" aria-label="Commands">${commandOf(asked)}${"\n"}${curlOf(asked)}</pre>
      ${error !== "" && html`<p role="alert" class="error">${error}</p>`}
      <div class="acts">
        <button class="main" disabled=${isBusy}>${acts[act].label}</button>
        <button type="button" onClick=${() => dialog.current?.close()}>Cancel</button>
      </div>
    </form>
  </dialog>`;
}

/** @typedef {{act: Act, pool: string, ids: string[], forMs: number, reason: string}} Asked */

/** @param {Asked} asked @param {string} id @returns {[line: string, body?: object]} */
function requestOf({ act, pool, forMs, reason }, id) {
  const path = `${pathOf(pool)}/proxies/${id}`;
  const why = reason === "" ? {} : { reason };
  if (act === "rest") return [`POST ${path}/rest`, { forMs, ...why }];
  if (act === "revive") return [`POST ${path}/revive`, {}];
  return [`DELETE ${path}${reason === "" ? "" : `?${new URLSearchParams({ reason })}`}`];
}

/** @param {Asked} asked */
export function commandOf({ act, pool, ids, forMs, reason }) {
  const time = act === "rest" ? ` --for ${forMs % 1000 === 0 ? `${forMs / 1000}s` : `${forMs}ms`}` : "";
  const why = reason === "" || act === "revive" ? "" : ` --reason ${quoted(reason)}`;
  return `npx remuda proxies ${act} ${ids.join(" ")}${time}${why} --pool ${pool}`;
}

/** @param {Asked} asked */
export function curlOf(asked) {
  const { ids } = asked;
  const one = ids.length === 1;
  const [line, body] = requestOf(asked, one ? (ids[0] ?? "") : "$id");
  const [method, path] = line.split(" ");
  const data = body === undefined ? "" : ` -d ${quoted(JSON.stringify(body))}`;
  const curl = `curl -X ${method} -H "Authorization: Bearer $REMUDA_HTTP_KEY"${data} "$REMUDA_HTTP_URL${path}"`;
  return one ? curl : `for id in ${ids.join(" ")}; do ${curl}; done`;
}

/** For a shell. @param {string} text */
export const quoted = (text) => (/^[\w.:/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
