import { html } from "htm/preact";
import { useState } from "preact/hooks";
import { logIn } from "./api.js";

export function Login() {
  const [error, setError] = useState("");
  /** @param {SubmitEvent} event */
  const submit = async (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const key = String(new FormData(form).get("key")).trim();
    try {
      await logIn(key);
    } catch (refusal) {
      setError(/** @type {Error} */ (refusal).message);
    }
  };
  return html`<main class="login">
    <h1>Remuda</h1>
    <form onSubmit=${submit}>
      <label for="key">Key</label>
      <input id="key" name="key" type="password" autocomplete="current-password" required aria-describedby="key-hint" />
      <p id="key-hint">
        <code>npx remuda user add</code> prints a new user's key, and <code>npx remuda env --as operator</code> that of
        the administrator.
      </p>
      ${error !== "" && html`<p role="alert" class="error">${error}</p>`}
      <button class="main">Log in</button>
    </form>
  </main>`;
}
