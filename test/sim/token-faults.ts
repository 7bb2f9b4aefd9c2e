// Deliberate faults in decisions about guest tokens; see faults.ts.
import type { Fault } from "./edit.ts";

export const tokenFaults: Record<string, Fault> = {
  "two-refreshes-at-once": {
    what: "a refresh of a token begins while another one is under way",
    edits: [
      {
        file: "state-machines/rules/token.ts",
        find: "(token.refresh === null && token.retryAt <= state.at)",
        put: "token.retryAt <= state.at",
      },
      {
        file: "state-machines/machines/token.ts",
        find: '        "TokenMinted.fresh",\n',
        put: '        begins,\n        "TokenMinted.fresh",\n',
      },
    ],
    by: ["token"],
    quick: 3,
  },
  "refresh-given-to-two": {
    what: "any executor that asks for a refresh gets it, though another one has it",
    edits: [
      {
        file: "services/picker/tokens.ts",
        find: "(holder === executor ? ",
        put: "(holder !== undefined ? ",
      },
    ],
    by: ["token"],
    quick: 3,
  },
  "refresh-given-again": {
    what: "each leader notes by itself which executor has a refresh, so a new leader gives it to another one",
    edits: [
      {
        file: "services/picker/tokens.ts",
        find: "this.#secrets.claim(takenBy(tokenId), executor)",
        put: "this.#secrets.claim(takenBy(tokenId) + this.#state.term, executor)",
      },
    ],
    by: ["token", "rate"],
    quick: 354,
  },
  "kept-token-refreshed": {
    what: "a token that was just minted is fetched again when a worker rejects it",
    edits: [
      {
        file: "state-machines/decide/token.ts",
        find: "!token.rejected && turn.at < keptUntil",
        put: "!token.rejected && turn.at < token.mintedAt",
      },
    ],
    by: ["token"],
    quick: 3,
  },
  "late-token-minted": {
    what: "a token that is brought after its deadline is accepted",
    edits: [
      {
        file: "state-machines/decide/timers.ts",
        find: "token.deadlineAt <= turn.at",
        put: "token.deadlineAt + 1000 <= turn.at",
      },
      {
        file: "state-machines/decide/timers.ts",
        find: "state.deadlines.top?.deadlineAt ?? Infinity",
        put: "(state.deadlines.top?.deadlineAt ?? Infinity) + 1000",
      },
    ],
    by: ["token"],
    quick: 3,
  },
  "rejected-token-given": {
    what: "a token that was rejected is still given out until the next one is there",
    edits: [
      {
        file: "state-machines/rules/token.ts",
        find: 'token.tokenId === "" || token.rejected)',
        put: 'token.tokenId === "")',
      },
    ],
    by: ["token"],
    quick: 6,
  },
};
