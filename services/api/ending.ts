// How the service ends. It takes no new connection, and answers all requests that are under way, within a moment. Those
// that wait are refused, and their clients ask elsewhere. Followers of events are cut off.
import { refuse } from "../../protocol/refusal.ts";
import type { Answer } from "./ask.ts";
import type { Api } from "./request.ts";

const answerMsMax = 1000;

export class Ending {
  #isNow = false;
  readonly #callbacks = new Set<() => void>();
  #underWay = 0;
  #onAnswered = (): void => {};

  /** Before any route is added. */
  constructor(api: Api) {
    api.addHook("onRequest", (request, reply, done) => {
      if (!(request.routeOptions.url ?? "").endsWith("/events")) {
        this.#underWay++;
        reply.raw.once("close", () => {
          this.#underWay--;
          this.#onAnswered();
        });
      }
      done();
    });
    api.addHook("preClose", (done) => {
      this.#end(api).then(() => done(), done);
    });
  }

  get isNow(): boolean {
    return this.#isNow;
  }

  /** Calls back when the service ends, until the returned function is called. */
  on(callback: () => void): () => void {
    this.#callbacks.add(callback);
    return () => void this.#callbacks.delete(callback);
  }

  /** The answer, or a refusal if the service ends before. */
  orRefused(asking: Promise<Answer>): Promise<Answer> {
    let off = (): void => {};
    const refused = new Promise<Answer>((resolve) => {
      const refusal = refuse("unavailable", "This service is stopping.", { retryAfterMs: 1 });
      off = this.on(() => resolve({ refusal }));
    });
    return Promise.race([asking, refused]).finally(() => off());
  }

  async #end(api: Api): Promise<void> {
    this.#isNow = true;
    api.server.close();
    for (const callback of [...this.#callbacks]) callback();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, answerMsMax);
    });
    const answered = new Promise<void>((resolve) => {
      this.#onAnswered = () => this.#underWay === 0 && resolve();
      this.#onAnswered();
    });
    await Promise.race([answered, late]);
    clearTimeout(timer);
  }
}
